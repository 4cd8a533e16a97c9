#!/usr/bin/env python3
"""quantized_test.py MOTE: checkpoints quantized by others. Each is made here, packed as its tools pack it, beside a folder of plain float32
weights with the values it stands for, computed here: both must give the same logits, bit for bit."""
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

DIM, FF, VOCAB, HEADS, KV = 64, 96, 40, 2, 1
LINEAR = {"self_attn.q_proj": (DIM, DIM), "self_attn.k_proj": (DIM // 2, DIM), "self_attn.v_proj": (DIM // 2, DIM), "self_attn.o_proj": (DIM, DIM),
          "mlp.gate_proj": (FF, DIM), "mlp.up_proj": (FF, DIM), "mlp.down_proj": (DIM, FF)}
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": DIM, "num_hidden_layers": 1, "num_attention_heads": HEADS,
          "num_key_value_heads": KV, "intermediate_size": FF, "vocab_size": VOCAB, "rms_norm_eps": 1e-5, "max_position_embeddings": 64,
          "rope_theta": 10000.0, "tie_word_embeddings": True, "hidden_act": "silu"}


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def f16(x):
    return struct.unpack("<e", struct.pack("<e", x))[0]


def bf16_bytes(x):
    return struct.pack("<f", x)[2:]


def bf16(x):
    return struct.unpack("<f", b"\0\0" + bf16_bytes(x))[0]


def floats(v, code="f"):
    return struct.pack(f"<{len(v)}{code}", *v)


def ints(v):
    return struct.pack(f"<{len(v)}I", *[x & 0xFFFFFFFF for x in v])


def write(folder, config, tensors):
    os.makedirs(folder)
    header, at, body = {}, 0, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
        body += data
    text = json.dumps(header).encode()
    with open(f"{folder}/model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)
    with open(f"{folder}/config.json", "w") as f:
        json.dump(config, f)


def bits_to_words(values, bits):
    """Values one behind the other, the first in the lowest bits."""
    whole = sum(v << (i * bits) for i, v in enumerate(values))
    return [whole >> (32 * i) & 0xFFFFFFFF for i in range((len(values) * bits + 31) // 32)]


def gptq(rng, rows, cols, bits, group, old, act_order, symmetric):
    top, groups = 2 ** bits - 1, (cols + group - 1) // group
    q = [[rng.randint(0, top) for _ in range(cols)] for _ in range(rows)]
    zero = [[2 ** (bits - 1) if symmetric else rng.randint(0, top) for _ in range(rows)] for _ in range(groups)]
    scale = [[f16(rng.uniform(0.002, 0.02)) for _ in range(rows)] for _ in range(groups)]
    g = [c // group for c in range(cols)]
    if act_order:
        rng.shuffle(g)
    columns = [bits_to_words([q[r][c] for c in range(cols)], bits) for r in range(rows)]  # [row][word]
    qweight = [columns[r][w] for w in range(len(columns[0])) for r in range(rows)]
    stored = [[(z - 1) & top if old else z for z in row] for row in zero]
    qzeros = [w for row in stored for w in bits_to_words(row, bits)]
    w = [[f32(scale[g[c]][r] * (q[r][c] - zero[g[c]][r])) for c in range(cols)] for r in range(rows)]
    return w, {"qweight": ("I32", [len(columns[0]), rows], ints(qweight)), "qzeros": ("I32", [groups, rows * bits // 32], ints(qzeros)),
               "scales": ("F16", [groups, rows], floats([s for row in scale for s in row], "e")), "g_idx": ("I32", [cols], ints(g))}


def awq(rng, rows, cols, group):
    order, groups = [0, 2, 4, 6, 1, 3, 5, 7], cols // group
    q = [[rng.randint(0, 15) for _ in range(rows)] for _ in range(cols)]
    zero = [[rng.randint(0, 15) for _ in range(rows)] for _ in range(groups)]
    scale = [[f16(rng.uniform(0.002, 0.02)) for _ in range(rows)] for _ in range(groups)]

    def pack(row):
        return [sum(row[8 * k + order[i]] << 4 * i for i in range(8)) for k in range(len(row) // 8)]
    w = [[f32(scale[c // group][r] * (q[c][r] - zero[c // group][r])) for c in range(cols)] for r in range(rows)]
    return w, {"qweight": ("I32", [cols, rows // 8], ints([x for row in q for x in pack(row)])),
               "qzeros": ("I32", [groups, rows // 8], ints([x for row in zero for x in pack(row)])),
               "scales": ("F16", [groups, rows], floats([s for row in scale for s in row], "e"))}


def packed(rng, rows, cols, bits, group, zeros, scales="F16"):
    half, per, groups = 2 ** (bits - 1), 32 // bits, (cols + group - 1) // group
    q = [[rng.randint(-half, half - 1) for _ in range(cols)] for _ in range(rows)]
    rounded = f16 if scales == "F16" else bf16
    scale = [[rounded(rng.uniform(0.002, 0.02)) for _ in range(groups)] for _ in range(rows)]
    zero = [[rng.randint(-half, half - 1) if zeros else 0 for _ in range(groups)] for _ in range(rows)]

    def pack(row):
        row = [x + half for x in row]
        return [sum(x << bits * i for i, x in enumerate(row[k:k + per])) for k in range(0, len(row), per)]
    w = [[f32(scale[r][c // group] * (q[r][c] - zero[r][c // group])) for c in range(cols)] for r in range(rows)]
    data = [s for row in scale for s in row]
    t = {"weight_packed": ("I32", [rows, (cols + per - 1) // per], ints([x for row in q for x in pack(row)])),
         "weight_scale": (scales, [rows, groups], floats(data, "e") if scales == "F16" else b"".join(map(bf16_bytes, data))),
         "weight_shape": ("I64", [2], struct.pack("<qq", rows, cols))}
    if zeros:
        columns = [pack([zero[r][k] for r in range(rows)]) for k in range(groups)]
        t["weight_zero_point"] = ("I32", [len(columns[0]), groups], ints([columns[k][i] for i in range(len(columns[0])) for k in range(groups)]))
    return w, t


def int8(rng, rows, cols):
    q = [[rng.randint(-128, 127) for _ in range(cols)] for _ in range(rows)]
    scale = [f32(rng.uniform(1e-4, 1e-3)) for _ in range(rows)]
    w = [[f32(scale[r] * q[r][c]) for c in range(cols)] for r in range(rows)]
    return w, {"weight": ("I8", [rows, cols], struct.pack(f"<{rows * cols}b", *[x for row in q for x in row])),
               "weight_scale": ("F32", [rows, 1], floats(scale)), "input_scale": ("F32", [1], floats([1.0]))}


def e4m3(v):
    sign, e, m = -1 if v & 128 else 1, v >> 3 & 15, v & 7
    return sign * (m / 8 * 2.0 ** -6 if e == 0 else (1 + m / 8) * 2.0 ** (e - 7))


def fp8(rng, rows, cols, block, name):
    q = [[rng.choice([x for x in range(256) if x & 127 != 127]) for _ in range(cols)] for _ in range(rows)]
    high, wide = block if block else (rows, cols)
    down, across = -(-rows // high), -(-cols // wide)
    scale = [[f32(rng.uniform(1e-4, 1e-3)) for _ in range(across)] for _ in range(down)]
    w = [[f32(e4m3(q[r][c]) * scale[r // high][c // wide]) for c in range(cols)] for r in range(rows)]
    flat = [s for row in scale for s in row]
    return w, {"weight": ("F8_E4M3", [rows, cols], bytes(x for row in q for x in row)),
               name: ("F32", [down, across] if block else [1], floats(flat))}


def groups_of(bits, group, kind="int"):
    return {"config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": bits, "type": kind, "group_size": group}}}}


CASES = {
    "gptq 4 bits, first form": ({"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": False, "desc_act": False},
                                lambda r, n, k: gptq(r, n, k, 4, 32, True, False, False), "q8_0"),
    "gptq 4 bits symmetric": ({"quant_method": "gptq", "bits": 4, "group_size": 32, "checkpoint_format": "gptq"},
                              lambda r, n, k: gptq(r, n, k, 4, 32, True, False, True), "q4_0"),
    "gptq 4 bits, act-order": ({"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True},
                               lambda r, n, k: gptq(r, n, k, 4, 32, True, True, False), "f32"),
    "gptq 3 bits": ({"quant_method": "gptq", "bits": 3, "group_size": 32}, lambda r, n, k: gptq(r, n, k, 3, 32, True, False, False), "q4_0|q8_0"),
    "gptq 2 bits, second form": ({"quant_method": "gptq", "bits": 2, "group_size": 16, "checkpoint_format": "gptq_v2"},
                                 lambda r, n, k: gptq(r, n, k, 2, 16, False, False, False), "f32"),
    "gptq 8 bits, whole rows": ({"quant_method": "gptq", "bits": 8, "group_size": -1}, lambda r, n, k: gptq(r, n, k, 8, k, True, False, True), "q8_0"),
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}, lambda r, n, k: awq(r, n, k, 32), "q8_0"),
    "compressed int4": ({"quant_method": "compressed-tensors", "format": "pack-quantized", **groups_of(4, 32)},
                        lambda r, n, k: packed(r, n, k, 4, 32, False), "q4_0"),
    "compressed int4 with zeros, bf16": ({"quant_method": "compressed-tensors", "format": "pack-quantized", **groups_of(4, 32)},
                                         lambda r, n, k: packed(r, n, k, 4, 32, True, "BF16"), "q8_0"),
    "compressed int3": ({"quant_method": "compressed-tensors", "format": "pack-quantized", **groups_of(3, None)},
                        lambda r, n, k: packed(r, n, k, 3, k, False), "q4_0"),
    "compressed int8": ({"quant_method": "compressed-tensors", "format": "int-quantized", **groups_of(8, None)}, int8, "f32"),
    "compressed float8": ({"quant_method": "compressed-tensors", "format": "float-quantized", **groups_of(8, None, "float")},
                          lambda r, n, k: fp8(r, n, k, None, "weight_scale"), "f32"),
    "fp8 in blocks": ({"quant_method": "fp8", "weight_block_size": [16, 48]}, lambda r, n, k: fp8(r, n, k, (16, 48), "weight_scale_inv"), "f32"),
}
REFUSED = {
    "bitsandbytes": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "aqlm": {"quant_method": "aqlm"},
    "marlin-24": {"quant_method": "compressed-tensors", "format": "marlin-24"},
    "gemv_fast": {"quant_method": "awq", "bits": 4, "version": "gemv_fast"},
    "of 5 bits": {"quant_method": "gptq", "bits": 5},
}


def logits(mote, path):
    r = subprocess.run([mote, "logits", "-m", path, "--ids", "1,7,30,2,19", "-o", "-"], capture_output=True)
    assert r.returncode == 0, r.stderr
    return r.stdout


def main():
    mote = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as tmp:
        os.chdir(tmp)
        for number, (name, (config, make, formats)) in enumerate(CASES.items()):
            rng = random.Random(number)
            plain = {"model.embed_tokens.weight": ("F32", [VOCAB, DIM], floats([f32(rng.gauss(0, 1)) for _ in range(VOCAB * DIM)]))}
            for n in ("input_layernorm", "post_attention_layernorm"):
                plain[f"model.layers.0.{n}.weight"] = ("F32", [DIM], floats([1.0] * DIM))
            plain["model.norm.weight"] = ("F32", [DIM], floats([1.0] * DIM))
            theirs = dict(plain)
            for n, (rows, cols) in LINEAR.items():
                w, tensors = make(rng, rows, cols)
                plain[f"model.layers.0.{n}.weight"] = ("F32", [rows, cols], floats([x for row in w for x in row]))
                theirs.update({f"model.layers.0.{n}.{k}": t for k, t in tensors.items()})
            write(f"plain{number}", CONFIG, plain)
            write(f"quantized{number}", {**CONFIG, "quantization_config": config}, theirs)
            assert logits(mote, f"plain{number}") == logits(mote, f"quantized{number}"), name
            subprocess.run([mote, "convert", f"quantized{number}", "out.gguf"],
                           check=True, capture_output=True)
            assert logits(mote, "out.gguf") == logits(mote, f"plain{number}"), name
            shown = subprocess.run([mote, "show", "out.gguf", "--json"], check=True, capture_output=True, text=True).stdout
            types = {t["type"].lower() for t in json.loads(shown)["tensors"] if "ffn_" in t["name"] and "norm" not in t["name"]}
            assert types <= set(formats.split("|")), (name, types)
            print(f"{name}: {', '.join(sorted(types))}")
        for number, (word, config) in enumerate(REFUSED.items()):
            write(f"refused{number}", {**CONFIG, "quantization_config": config}, {"model.norm.weight": ("F32", [DIM], floats([1.0] * DIM))})
            r = subprocess.run([mote, "show", f"refused{number}"], capture_output=True, text=True)
            assert r.returncode == 1 and word in r.stderr, (word, r.stderr)
        # what does not fit is refused, too
        w, tensors = gptq(random.Random(1), 64, 64, 4, 32, True, False, False)
        broken = {f"model.layers.0.mlp.up_proj.{k}": t for k, t in tensors.items()}
        broken["model.layers.0.mlp.up_proj.g_idx"] = ("I32", [64], ints([7] * 64))
        write("broken", {**CONFIG, "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 32}}, broken)
        r = subprocess.run([mote, "show", "broken"], capture_output=True, text=True)
        assert r.returncode == 1 and "group 7 of 2" in r.stderr, r.stderr
    return 0


sys.exit(main())
