"""BERT: modeling, tokenization, optimisation and the files they come from.

Nothing is imported here, so that a program that prepares text need not wait for torch.
"""
