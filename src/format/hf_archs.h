/* hf_archs.h: what the rows of hf_archs.def name, one set of tables and functions per family that needs them. */
#ifndef MOTE_FORMAT_HF_ARCHS_H
#define MOTE_FORMAT_HF_ARCHS_H

#include "format/hf_int.h"

/* hf_hybrids.c */
extern const hf_rule hf_mamba2_rules[], hf_lfm2_rules[];
extern const hf_key hf_lfm2_keys[];
mote_status hf_mamba_extra(hf *h, mote_error *err);
mote_status hf_mamba2_extra(hf *h, mote_error *err);
mote_status hf_lfm2_extra(hf *h, mote_error *err);

#endif
