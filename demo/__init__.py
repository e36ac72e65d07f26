"""The embedded demo's data: a small synthetic English-like language and all that is made from it.

`python -m demo.make --stage wiki|glue|glove|models` writes what the full profile downloads: a MediaWiki
dump, four GLUE tasks, word vectors, and the vocabulary and configurations of teacher and students.
`python -m demo.walkthrough` follows one example through a run and writes docs/walkthrough.md.
"""
