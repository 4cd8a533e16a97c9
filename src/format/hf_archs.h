/* hf_archs.h: what the rows of hf_archs.def name outside hf_archs.c. */
#ifndef MOTE_FORMAT_HF_ARCHS_H
#define MOTE_FORMAT_HF_ARCHS_H

#include "format/hf_int.h"

typedef mote_status hf_extra(hf *h, mote_error *err);

/* hf_hybrids.c */
extern const hf_rule hf_mamba2_rules[], hf_granite_rules[], hf_jamba_rules[], hf_falcon_h1_rules[],
    hf_nemotron_h_rules[], hf_plamo2_rules[], hf_lfm2_rules[];
extern const hf_key hf_nemotron_h_keys[], hf_plamo2_keys[], hf_lfm2_keys[];
hf_extra hf_mamba_extra, hf_mamba2_extra, hf_granite_hybrid_extra, hf_jamba_extra, hf_falcon_h1_extra,
    hf_nemotron_h_extra, hf_plamo2_extra, hf_lfm2_extra;
bool hf_granite_is_attention(const hf *h, uint32_t i);
/* hf_delta.c */
extern const hf_rule hf_qwen3next_rules[], hf_qwen35_rules[], hf_kimi_rules[], hf_rwkv7_rules[];
extern const hf_key hf_qwen_delta_keys[], hf_kimi_keys[];
hf_extra hf_qwen_delta_extra, hf_qwen35_extra, hf_kimi_extra, hf_rwkv7_extra;

#endif
