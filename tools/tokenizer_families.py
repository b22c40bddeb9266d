"""The tokenizer pipelines of the model families that ssa reads, as the Hugging Face library builds them."""

import json

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

LLAMA3_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
FAMILIES = {
    "SmolLM2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "Llama-3": [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ],
    "Qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
}


def empty_pipeline(name):
    """The family's tokenizer, without vocabulary."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "Llama-3"))
    tokenizer.decoder = decoders.ByteLevel()
    if name == "SmolLM2":
        words = [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    else:
        pattern = Regex(LLAMA3_PATTERN if name == "Llama-3" else QWEN2_PATTERN)
        words = [
            pre_tokenizers.Split(pattern, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(words)
    if name == "Qwen2":
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.post_processor = processors.ByteLevel(
            add_prefix_space=False, trim_offsets=False, use_regex=False
        )
    return tokenizer


def train(name, corpus, vocab_size):
    """A tokenizer of the family, trained on the corpus; with special tokens, and a few added ones of every kind."""
    tokenizer = empty_pipeline(name)
    specials = FAMILIES[name]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        special_tokens=specials if name == "SmolLM2" else [],
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_special_tokens(specials)
    tokenizer.add_tokens(
        [
            AddedToken("<tool>", normalized=False),
            AddedToken("Zo\u00eb", normalized=True),
            AddedToken("word", single_word=True, normalized=False),
            AddedToken("<think>", lstrip=True, rstrip=True, normalized=False),
        ]
    )
    if name == "Llama-3":
        bos = specials[0]
        template = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos}:1 $B:1",
            special_tokens=[(bos, tokenizer.token_to_id(bos))],
        )
        tokenizer.post_processor = processors.Sequence(
            [processors.ByteLevel(trim_offsets=True), template]
        )
    return tokenizer


def from_gguf(path):
    """SmolLM2's tokenizer, from the vocabulary, merges and token types in a GGUF file."""
    import gguf

    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = fields["tokenizer.ggml.merges"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    tokenizer = json.loads(empty_pipeline("SmolLM2").to_str())
    tokenizer["model"]["vocab"] = {token: i for i, token in enumerate(tokens)}
    tokenizer["model"]["merges"] = merges
    control, user_defined = 3, 4
    tokenizer["added_tokens"] = [
        {
            "id": i,
            "content": token,
            "special": kind == control,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for i, (token, kind) in enumerate(zip(tokens, types))
        if kind in (control, user_defined)
    ]
    return Tokenizer.from_str(json.dumps(tokenizer))
