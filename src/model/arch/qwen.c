/* qwen.c: Qwen 2, 2.5 and 3 with their expert and vision-language (text part) forms. */
#include "model/arch.h"

#define QWEN_LIKE .norm = NORM_RMS, .rope = ROPE_NEOX, .act = ACT_SILU

const arch arch_qwen2 = {.name = "qwen2", QWEN_LIKE};
/* multi-axis rotation: with text alone all axes hold the same position, which is plain rotation */
const arch arch_qwen2vl = {.name = "qwen2vl", QWEN_LIKE, .output_unbiased = true};
const arch arch_qwen2moe = {.name = "qwen2moe", QWEN_LIKE};
const arch arch_qwen3 = {.name = "qwen3", QWEN_LIKE, .qk_norm = QKN_HEAD, .ffn_scaled = true};
const arch arch_qwen3moe = {.name = "qwen3moe", QWEN_LIKE, .qk_norm = QKN_HEAD, .expert_norm = true, .moe_scaled = true};
