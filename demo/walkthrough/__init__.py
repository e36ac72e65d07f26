"""docs/walkthrough.md, made from a demo run: one example followed through every stage.

The text is `walkthrough.template.md`. Its numbers come from the run's files and models, its lines of
code from the source as it stands; each loss is computed a second time by a plain formula.
"""
