"""Names of BERT's parameters in MindSpore's BERT program (mindspore-ai/models, official/nlp/Bert) and in Hugging Face's
BertForPreTraining."""
from __future__ import annotations

from models.weights.scheme import Scheme

_MINDSPORE = {
    "bert.embeddings.word.*": "bert.bert.bert_embedding_lookup.*",
    "bert.embeddings.position.*": "bert.bert.bert_embedding_postprocessor.full_position_embedding.*",
    "bert.embeddings.token_type.*": "bert.bert.bert_embedding_postprocessor.token_type_embedding.*",
    "bert.embeddings.norm.*": "bert.bert.bert_embedding_postprocessor.layernorm.*",
    "bert.encoder.#.attention.query.*": "bert.bert.bert_encoder.layers.#.attention.attention.query_layer.*",
    "bert.encoder.#.attention.key.*": "bert.bert.bert_encoder.layers.#.attention.attention.key_layer.*",
    "bert.encoder.#.attention.value.*": "bert.bert.bert_encoder.layers.#.attention.attention.value_layer.*",
    "bert.encoder.#.attention.relative.table": "bert.bert.bert_encoder.layers.#.attention.attention."
                                               "_generate_relative_positions_embeddings.embeddings_table",
    "bert.encoder.#.attention.output.*": "bert.bert.bert_encoder.layers.#.attention.output.dense.*",
    "bert.encoder.#.attention_norm.*": "bert.bert.bert_encoder.layers.#.attention.output.layernorm.*",
    "bert.encoder.#.intermediate.*": "bert.bert.bert_encoder.layers.#.intermediate.*",
    "bert.encoder.#.output.*": "bert.bert.bert_encoder.layers.#.output.dense.*",
    "bert.encoder.#.output_norm.*": "bert.bert.bert_encoder.layers.#.output.layernorm.*",
    "bert.pooler.*": "bert.bert.dense.*",
    "masked_language_model.transform.*": "bert.cls1.dense.*",
    "masked_language_model.norm.*": "bert.cls1.layernorm.*",
    "masked_language_model.decoder.bias": "bert.cls1.output_bias",
    "next_sentence.classifier.*": "bert.cls2.dense.*",
}
_HUGGING_FACE = {
    "bert.embeddings.word.*": "bert.embeddings.word_embeddings.*",
    "bert.embeddings.position.*": "bert.embeddings.position_embeddings.*",
    "bert.embeddings.token_type.*": "bert.embeddings.token_type_embeddings.*",
    "bert.embeddings.norm.*": "bert.embeddings.LayerNorm.*",
    "bert.encoder.#.attention.query.*": "bert.encoder.layer.#.attention.self.query.*",
    "bert.encoder.#.attention.key.*": "bert.encoder.layer.#.attention.self.key.*",
    "bert.encoder.#.attention.value.*": "bert.encoder.layer.#.attention.self.value.*",
    "bert.encoder.#.attention.output.*": "bert.encoder.layer.#.attention.output.dense.*",
    "bert.encoder.#.attention_norm.*": "bert.encoder.layer.#.attention.output.LayerNorm.*",
    "bert.encoder.#.intermediate.*": "bert.encoder.layer.#.intermediate.dense.*",
    "bert.encoder.#.output.*": "bert.encoder.layer.#.output.dense.*",
    "bert.encoder.#.output_norm.*": "bert.encoder.layer.#.output.LayerNorm.*",
    "bert.pooler.*": "bert.pooler.dense.*",
    "masked_language_model.transform.*": "cls.predictions.transform.dense.*",
    "masked_language_model.norm.*": "cls.predictions.transform.LayerNorm.*",
    "masked_language_model.decoder.bias": "cls.predictions.bias",
    "next_sentence.classifier.*": "cls.seq_relationship.*",
}
_RELATIVE = _MINDSPORE["bert.encoder.#.attention.relative.table"].replace("#", "0")
_POSTPROCESSOR = r"^(bert\.bert\.bert_embedding_postprocessor)"

ZOO = Scheme({row: row for row in _MINDSPORE})
MINDSPORE = Scheme(
    _MINDSPORE,
    older={_POSTPROCESSOR + r"\.embedding_table$": r"\1.token_type_embedding.embedding_table",
           _POSTPROCESSOR + r"\.full_position_embeddings$": r"\1.full_position_embedding.embedding_table"},
    unused={"bert.bert.bert_embedding_postprocessor.full_position_embedding.embedding_table": _RELATIVE})
HUGGING_FACE = Scheme(
    _HUGGING_FACE, leaves={"embedding_table": "weight", "gamma": "weight", "beta": "bias"},
    older={r"\.LayerNorm\.gamma$": ".LayerNorm.weight", r"\.LayerNorm\.beta$": ".LayerNorm.bias",
           r"^(embeddings|encoder|pooler)\.": r"bert.\1."},  # the last: of BertModel, which has no heads
    tied={"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
          "cls.predictions.decoder.bias": "cls.predictions.bias"})
