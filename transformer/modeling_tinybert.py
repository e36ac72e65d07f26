"""TinyBERT's classifier for `transformers`: AutoModelForSequenceClassification with trust_remote_code=True.

A copy of this file stands beside the weights of every classifier with TinyBERT's head; config.json names it.
"""

from torch import nn
from transformers import BertForSequenceClassification


class TinyBertForSequenceClassification(BertForSequenceClassification):
    """BERT with the head classifier(relu(pooled)), where BERT's own is classifier(dropout(pooled))."""

    # The projection to the teacher's width; only distillation reads it.
    _keys_to_ignore_on_load_unexpected = [r"^fit_denses?\."]

    def __init__(self, config):
        super().__init__(config)
        self.dropout = nn.ReLU()  # stands between the pooled vector and the classifier
