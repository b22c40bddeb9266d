"""The tokenizer pipelines of the model families that ssa reads, as the Hugging Face library builds them."""

import json

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
FAMILIES = {  # and their special tokens
    "SmolLM2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "Llama-3": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|eot_id|>"],
    "Qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
}


def byte_level(use_regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def empty_pipeline(name):
    """The family's tokenizer, without vocabulary."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "Llama-3"))
    tokenizer.decoder = decoders.ByteLevel()
    if name == "SmolLM2":
        words = [pre_tokenizers.Digits(individual_digits=True), byte_level(use_regex=True)]
    else:
        pattern = Regex(LLAMA3_PATTERN if name == "Llama-3" else QWEN2_PATTERN)
        words = [pre_tokenizers.Split(pattern, "isolated"), byte_level(use_regex=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(words)
    if name == "Qwen2":
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def bos_template(bos, bos_id):
    pair = f"{bos} $A {bos}:1 $B:1"
    template = processors.TemplateProcessing(f"{bos} $A", pair, special_tokens=[(bos, bos_id)])
    return processors.Sequence([processors.ByteLevel(trim_offsets=True), template])


def train(name, corpus, vocab_size):
    """A tokenizer of the family, trained on the corpus; with an added token of every kind."""
    tokenizer = empty_pipeline(name)
    specials = FAMILIES[name]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        special_tokens=specials if name == "SmolLM2" else [],  # there they come first
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
        tokenizer.post_processor = bos_template(bos, tokenizer.token_to_id(bos))
    return tokenizer


def from_gguf(path):
    """SmolLM2's tokenizer, from the vocabulary, merges and token types in a GGUF file."""
    import gguf

    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    tokenizer = json.loads(empty_pipeline("SmolLM2").to_str())
    tokenizer["model"]["vocab"] = {token: i for i, token in enumerate(tokens)}
    tokenizer["model"]["merges"] = fields["tokenizer.ggml.merges"].contents()
    control, user_defined = 3, 4
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokenizer["added_tokens"] = [
        {"id": i, "content": token, "special": kind == control, **flags}
        for i, (token, kind) in enumerate(zip(tokens, types))
        if kind in (control, user_defined)
    ]
    return Tokenizer.from_str(json.dumps(tokenizer))
