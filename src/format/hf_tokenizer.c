/* hf_tokenizer.c */
#include "format/hf_int.h"
mote_status hf_put_tokenizer(hf *h, mote_error *err) {
    return hf_put_str(h, "tokenizer.ggml.model", STR("none"), err);
}
