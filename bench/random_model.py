#!/usr/bin/env python3
"""random_model.py KIND OUT.gguf: a model of a real one's shapes with random weights, for timing.

Recurrent and expert models of small size are rare as files; speed depends on shapes alone, so this makes them up.
KIND is a key of MODELS. Needs numpy and gguf. Big matrices are Q4_K (Q8_0 where the columns are no multiple of 256).
"""
import sys

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter

VOCAB = 32000
rng = np.random.default_rng(1)


def q4_k(rows, cols):
    """Random levels; d and dmin such that the weights have mean 0 and variance about 1 / cols."""
    blocks = np.empty((rows, cols // 256, 144), np.uint8)
    blocks[:] = rng.integers(0, 256, blocks.shape, np.uint8)
    d = np.float16(1 / (np.sqrt(cols) * 180))
    blocks[..., 0:2] = np.frombuffer(d.tobytes(), np.uint8)
    blocks[..., 2:4] = np.frombuffer(np.float16(7.5 * d).tobytes(), np.uint8)
    return blocks.reshape(rows, -1)


def q8_0(rows, cols):
    blocks = np.empty((rows, cols // 32, 34), np.uint8)
    blocks[:] = rng.integers(0, 256, blocks.shape, np.uint8)
    blocks[..., 0:2] = np.frombuffer(np.float16(1 / (np.sqrt(cols) * 74)).tobytes(), np.uint8)
    return blocks.reshape(rows, -1)


class Model:
    def __init__(self, path, arch, n_embd, n_layer, n_ff, output_norm="output_norm", **keys):
        self.w = GGUFWriter(path, arch)
        self.arch, self.n_embd = arch, n_embd
        w = self.w
        w.add_context_length(8192)
        w.add_embedding_length(n_embd)
        w.add_block_count(n_layer)
        w.add_feed_forward_length(n_ff)
        w.add_vocab_size(VOCAB)
        for k, v in keys.items():
            self.key(k.replace("__", "."), v)
        w.add_tokenizer_model("gpt2")
        w.add_tokenizer_pre("gpt-2")
        w.add_token_list([f"t{i}" for i in range(VOCAB)])
        w.add_token_types([1] * VOCAB)
        w.add_token_merges(["t 1"])
        self.mat("token_embd", n_embd, VOCAB)
        self.vec(output_norm, n_embd)

    def key(self, name, v):
        name = f"{self.arch}.{name}"
        if isinstance(v, list):
            self.w.add_array(name, v)
        elif isinstance(v, float):
            self.w.add_float32(name, v)
        else:
            self.w.add_uint32(name, v)

    def mat(self, name, cols, rows, n_mat=1):
        make, kind = (q4_k, Type.Q4_K) if cols % 256 == 0 else (q8_0, Type.Q8_0)
        data = make(rows * n_mat, cols)
        if n_mat > 1:
            data = data.reshape(n_mat, rows, -1)
        self.w.add_tensor(name + ".weight", data, raw_dtype=kind)

    def f32(self, name, *shape, low=-0.5, high=0.5):
        """shape: outermost first; the name whole."""
        self.w.add_tensor(name, rng.uniform(low, high, shape).astype(np.float32))

    def vec(self, name, *shape):
        self.f32(name + ".weight", *shape, low=0.8, high=1.2)

    def ffn(self, p, n_ff):
        self.mat(p + "ffn_gate", self.n_embd, n_ff)
        self.mat(p + "ffn_up", self.n_embd, n_ff)
        self.mat(p + "ffn_down", n_ff, self.n_embd)

    def attn(self, p, heads, kv, dim, gated=False, head_norm=False):
        self.mat(p + "attn_q", self.n_embd, heads * dim * (2 if gated else 1))
        self.mat(p + "attn_k", self.n_embd, kv * dim)
        self.mat(p + "attn_v", self.n_embd, kv * dim)
        self.mat(p + "attn_output", heads * dim, self.n_embd)
        if head_norm:
            self.vec(p + "attn_q_norm", dim)
            self.vec(p + "attn_k_norm", dim)

    def mamba2(self, p, heads, dim, state, groups):
        inner, conv = heads * dim, heads * dim + 2 * groups * state
        self.mat(p + "ssm_in", self.n_embd, inner + conv + heads)
        self.f32(p + "ssm_conv1d.weight", conv, 4)
        self.f32(p + "ssm_conv1d.bias", conv)
        self.f32(p + "ssm_dt.bias", heads)
        self.f32(p + "ssm_a", heads, 1, low=-1.0, high=-0.1)
        self.f32(p + "ssm_d", heads, 1)
        self.f32(p + "ssm_norm.weight", groups, inner // groups, low=0.8, high=1.2)
        self.mat(p + "ssm_out", inner, self.n_embd)

    def close(self):
        self.w.write_header_to_file()
        self.w.write_kv_data_to_file()
        self.w.write_tensors_to_file()
        self.w.close()


RMS = {"attention__layer_norm_rms_epsilon": 1e-5}


def mamba(path, layers=24):
    """Mamba 130M."""
    n, inner, state, rank = 768, 1536, 16, 48
    m = Model(path, "mamba", n, layers, 0, ssm__inner_size=inner, ssm__conv_kernel=4, ssm__state_size=state,
              ssm__time_step_rank=rank, **RMS)
    for i in range(layers):
        p = f"blk.{i}."
        m.vec(p + "attn_norm", n)
        m.mat(p + "ssm_in", n, 2 * inner)
        m.f32(p + "ssm_conv1d.weight", inner, 4)
        m.f32(p + "ssm_conv1d.bias", inner)
        m.mat(p + "ssm_x", inner, rank + 2 * state)
        m.f32(p + "ssm_dt.weight", inner, rank)
        m.f32(p + "ssm_dt.bias", inner)
        m.f32(p + "ssm_a", inner, state, low=-1.0, high=-0.1)
        m.f32(p + "ssm_d", inner)
        m.mat(p + "ssm_out", inner, n)
    m.close()


def mamba2(path, layers=24):
    """Mamba-2 130M."""
    m = Model(path, "mamba2", 768, layers, 0, ssm__inner_size=1536, ssm__conv_kernel=4, ssm__state_size=128,
              ssm__time_step_rank=24, ssm__group_count=1, **RMS)
    for i in range(layers):
        m.vec(f"blk.{i}.attn_norm", 768)
        m.mamba2(f"blk.{i}.", 24, 64, 128, 1)
    m.close()


def granite_h(path, layers=32):
    """Granite 4.0 H 350M: four of its layers attend."""
    kv = [4 if i % 8 == 5 else 0 for i in range(layers)]
    m = Model(path, "granitehybrid", 768, layers, 2048, ssm__inner_size=1536, ssm__conv_kernel=4, ssm__state_size=128,
              ssm__time_step_rank=48, ssm__group_count=1, attention__head_count=12, attention__head_count_kv=kv,
              rope__dimension_count=64, rope__freq_base=10000.0, attention__scale=0.015625, embedding_scale=12.0,
              residual_scale=0.246, logit_scale=3.0, **RMS)
    for i in range(layers):
        p = f"blk.{i}."
        m.vec(p + "attn_norm", 768)
        if kv[i]:
            m.attn(p, 12, 4, 64)
        else:
            m.mamba2(p, 48, 32, 128, 1)
        m.vec(p + "ffn_norm", 768)
        m.ffn(p, 2048)
    m.close()


def falcon_h1(path, layers=18):
    """Falcon-H1 0.5B, half as deep: attention and Mamba-2 side by side in every layer."""
    m = Model(path, "falcon-h1", 1024, layers, 2048, ssm__inner_size=1536, ssm__conv_kernel=4, ssm__state_size=128,
              ssm__time_step_rank=24, ssm__group_count=1, attention__head_count=8, attention__head_count_kv=2,
              attention__key_length=64, attention__value_length=64, rope__dimension_count=64, rope__freq_base=1e6, **RMS)
    for i in range(layers):
        p = f"blk.{i}."
        m.vec(p + "attn_norm", 1024)
        m.attn(p, 8, 2, 64)
        m.mamba2(p, 24, 64, 128, 1)
        m.f32(p + "ffn_norm", 1024, low=0.8, high=1.2)
        m.ffn(p, 2048)
    m.close()


def lfm2(path, layers=16):
    """LFM2 350M."""
    kv = [8 if i in (2, 5, 8, 10, 12, 14) else 0 for i in range(layers)]
    m = Model(path, "lfm2", 1024, layers, 4608, shortconv__l_cache=3, attention__head_count=16,
              attention__head_count_kv=kv, rope__freq_base=1e6, rope__dimension_count=64,
              output_norm="token_embd_norm", **RMS)
    for i in range(layers):
        p = f"blk.{i}."
        m.vec(p + "attn_norm", 1024)
        if kv[i]:
            m.attn(p, 16, 8, 64, head_norm=True)
        else:
            m.mat(p + "shortconv.in_proj", 1024, 3072)
            m.f32(p + "shortconv.conv.weight", 1024, 3)
            m.mat(p + "shortconv.out_proj", 1024, 1024)
        m.vec(p + "ffn_norm", 1024)
        m.ffn(p, 4608)
    m.close()


def qwen35(path, layers=12):
    """Qwen 3.5 0.8B, half as deep: three gated delta nets to one attention."""
    state, k_heads, v_heads = 128, 16, 16
    m = Model(path, "qwen35", 1024, layers, 3584, ssm__inner_size=v_heads * 128, ssm__conv_kernel=4,
              ssm__state_size=state, ssm__time_step_rank=v_heads, ssm__group_count=k_heads, attention__head_count=8,
              attention__head_count_kv=2, attention__key_length=256, attention__value_length=256,
              rope__dimension_count=64, rope__freq_base=1e7, full_attention_interval=4,
              rope__dimension_sections=[11, 11, 10, 0], **RMS)
    for i in range(layers):
        p = f"blk.{i}."
        m.vec(p + "attn_norm", 1024)
        m.vec(p + "post_attention_norm", 1024)
        if i % 4 == 3:
            m.attn(p, 8, 2, 256, gated=True, head_norm=True)
        else:
            qkv = 2 * k_heads * state + v_heads * 128
            m.mat(p + "attn_qkv", 1024, qkv)
            m.mat(p + "attn_gate", 1024, v_heads * 128)
            m.mat(p + "ssm_alpha", 1024, v_heads)
            m.mat(p + "ssm_beta", 1024, v_heads)
            m.f32(p + "ssm_conv1d.weight", qkv, 4)
            m.f32(p + "ssm_dt.bias", v_heads)
            m.f32(p + "ssm_a", v_heads, low=-1.0, high=-0.1)
            m.vec(p + "ssm_norm", 128)
            m.mat(p + "ssm_out", v_heads * 128, 1024)
        m.ffn(p, 3584)
    m.close()


def rwkv7(path, layers=12, n=768, decay=64, iclr=64, value=32, gate=128):
    """RWKV-7 0.1B."""
    m = Model(path, "rwkv7", n, layers, 4 * n, wkv__head_size=64, attention__decay_lora_rank=decay,
              attention__iclr_lora_rank=iclr, attention__value_residual_mix_lora_rank=value,
              attention__gate_lora_rank=gate, attention__head_count=0, token_shift_count=2,
              attention__layer_norm_epsilon=1e-5)
    m.vec("token_embd_norm", n)
    m.f32("token_embd_norm.bias", n)
    m.f32("output_norm.bias", n)
    m.mat("output", n, VOCAB)
    for i in range(layers):
        p = f"blk.{i}."
        for name in ("attn_norm", "attn_norm_2", "time_mix_ln"):
            m.vec(p + name, n)
            m.f32(p + name + ".bias", n)
        for name in ("receptance", "key", "value", "output"):
            m.mat(p + "time_mix_" + name, n, n)
        for name, rank in (("w", decay), ("a", iclr), ("v", value if i else iclr), ("g", gate)):
            m.mat(p + f"time_mix_{name}1", n, rank)
            m.mat(p + f"time_mix_{name}2", rank, n)
            if name != "g":
                m.f32(p + f"time_mix_{name}0.weight", n)
        for name in ("k_k", "k_a", "r_k"):
            m.f32(p + f"time_mix_{name}.weight", n)
        m.f32(p + "time_mix_lerp_fused.weight", 6, 1, 1, n, low=0, high=1)
        m.f32(p + "channel_mix_lerp_k.weight", 1, 1, n, low=0, high=1)
        m.mat(p + "channel_mix_key", n, 4 * n)
        m.mat(p + "channel_mix_value", 4 * n, n)
    m.close()


def olmoe(path, layers=8):
    """OLMoE's 64 experts of which 8 are used, half as wide and half as deep."""
    n, ff, ne = 1024, 512, 64
    m = Model(path, "olmoe", n, layers, ff, attention__head_count=16, attention__head_count_kv=16,
              rope__freq_base=10000.0, expert_count=ne, expert_used_count=8, **RMS)
    m.mat("output", n, VOCAB)
    for i in range(layers):
        p = f"blk.{i}."
        m.vec(p + "attn_norm", n)
        m.attn(p, 16, 16, 64)
        m.vec(p + "attn_q_norm", n)
        m.vec(p + "attn_k_norm", n)
        m.vec(p + "ffn_norm", n)
        m.f32(p + "ffn_gate_inp.weight", ne, n, low=-0.1, high=0.1)
        m.mat(p + "ffn_gate_exps", n, ff, ne)
        m.mat(p + "ffn_up_exps", n, ff, ne)
        m.mat(p + "ffn_down_exps", ff, n, ne)
    m.close()


MODELS = {f.__name__: f for f in (mamba, mamba2, granite_h, falcon_h1, lfm2, qwen35, rwkv7, olmoe)}

if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in MODELS:
        sys.exit(f"{__doc__}\nKINDs: {', '.join(MODELS)}")
    MODELS[sys.argv[1]](sys.argv[2])
