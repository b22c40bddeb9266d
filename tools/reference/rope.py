"""Rotary frequencies as transformers defines them: default, linear, llama3 and yarn."""

import math

import torch


def rope_settings(config):
    """One dictionary from either dialect of config.json (rope_parameters, or rope_theta with
    rope_scaling)."""
    settings = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    settings.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    settings.setdefault("rope_type", settings.get("type", "default"))
    settings.setdefault("original_max_position_embeddings", config.get("max_position_embeddings"))
    return settings


def frequencies(config, head_dim):
    """(frequencies [head_dim / 2] in float32, factor on cos and sin)."""
    settings = rope_settings(config)
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    plain = 1.0 / (settings["rope_theta"] ** exponents)
    kind = settings["rope_type"]
    if kind == "default":
        return plain, 1.0
    if kind == "linear":
        return plain / settings["factor"], 1.0
    if kind == "llama3":
        return llama3(plain, settings), 1.0
    if kind == "yarn":
        return yarn(plain, settings, head_dim)
    raise ValueError(f"unknown rope type {kind}")


def llama3(plain, settings):
    """Long waves are stretched by `factor`, short ones stay, those between are blended."""
    original = settings["original_max_position_embeddings"]
    low, high = settings["low_freq_factor"], settings["high_freq_factor"]
    factor = settings["factor"]
    out = []
    for frequency in plain:
        wave = 2 * math.pi / frequency
        if wave < original / high:
            out.append(frequency)
        elif wave > original / low:
            out.append(frequency / factor)
        else:
            blend = (original / wave - low) / (high - low)
            out.append((1 - blend) * frequency / factor + blend * frequency)
    return torch.stack(out)


def yarn(plain, settings, head_dim):
    """Channels that turn often keep their frequency, channels that turn seldom are stretched."""
    factor = settings["factor"]
    original = settings["original_max_position_embeddings"]
    theta = settings["rope_theta"]

    def channel_of(turns):  # the channel that makes so many turns over the original length
        return head_dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first = channel_of(settings.get("beta_fast") or 32)
    last = channel_of(settings.get("beta_slow") or 1)
    if settings.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    if first == last:
        last += 0.001
    channels = torch.arange(head_dim // 2, dtype=torch.float32)
    stretched = ((channels - first) / (last - first)).clamp(0, 1)
    return plain / factor * stretched + plain * (1 - stretched), yarn_scale(settings)


def yarn_scale(settings):
    def magnitude(weight):
        factor = settings["factor"]
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if settings.get("attention_factor") is not None:
        return settings["attention_factor"]
    if settings.get("mscale") and settings.get("mscale_all_dim"):
        return magnitude(settings["mscale"]) / magnitude(settings["mscale_all_dim"])
    return magnitude(1.0)
