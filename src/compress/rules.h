/* rules.h: which tensor gets which format: llama-quantize's rules as pure decisions, no bytes touched. */
#ifndef MOTE_COMPRESS_RULES_H
#define MOTE_COMPRESS_RULES_H

#include "compress/quantize.h"
#include "format/format.h"

typedef enum ftype {
#define FTYPE(NAME, number, format, about) FTYPE_##NAME,
#include "compress/ftypes.def"
#undef FTYPE
    FTYPE_COUNT
} ftype;

typedef struct ftype_info {
    const char *name, *about;
    int file_type; /* the value of general.file_type */
    quant_type format;
} ftype_info;

extern const ftype_info ftypes[FTYPE_COUNT];
/* By name in any case, alias (Q4_K for Q4_K_M) or number; FTYPE_COUNT when unknown. */
ftype ftype_find(const char *name);

/* One decision. why: static text, or NULL when got is wanted. */
typedef struct rules_choice {
    quant_type wanted, got;
    const char *why;
} rules_choice;

typedef struct rules rules;
/* Reads what the rules depend on; compiles the patterns. *out is freed with rules_close. */
mote_status rules_open(rules **out, const model_file *f, const mote_quantize_options *o, bool importance,
                       mote_error *err);
void rules_close(rules **r);
ftype rules_type(const rules *r);
/* Decides for all tensors: choice[i] for model_file_tensor(f, i). */
mote_status rules_decide(rules *r, const model_file *f, rules_choice *choice, mote_error *err);

#endif
