/* vocab_json.c: opening a vocabulary from tokenizer.json. */
#include "token/token_int.h"

mote_status tok_open_json(tok_vocab **out, str json, str config_json, const log_sink *log, mote_error *err) {
    (void)json, (void)config_json, (void)log;
    *out = NULL;
    FAIL(err, MOTE_E_UNSUPPORTED, "tokenizer.json is not read yet");
}
mote_status tok_json_encode(tok_work *w, str text, bool first) {
    (void)text, (void)first;
    FAIL(w->err, MOTE_E_INTERNAL, "unreachable");
}
void tok_norm_free(tok_norm **n) { *n = NULL; }
