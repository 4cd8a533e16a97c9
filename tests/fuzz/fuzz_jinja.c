/* fuzz_jinja.c: any bytes as a chat template, rendered with a small conversation under small budgets. The spans of
 * what comes out must cover it without gaps. */
#include "chat/chat.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char vars_text[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", \"content\": \"a<|im_end|>\\u00e9 b\"},"
    "{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"x\", \"function\": {\"name\": \"f\","
    "\"arguments\": {\"a\": [1, 2.5, true, null, \"t\"]}}}]}], \"tools\": [{\"type\": \"function\", \"function\":"
    "{\"name\": \"f\", \"parameters\": {\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"array\"}}}}}],"
    "\"add_generation_prompt\": true, \"n\": 7, \"x\": 0.1, \"s\": \"Hello World\", \"d\": {\"b\": 1, \"a\": 2}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const struct tm now = {.tm_year = 126, .tm_mday = 2};
    static json_t *vars;
    jinja_opts opts = {.now = &now, .steps = 20000, .memory_bytes = (size_t)4 << 20, .output_bytes = (size_t)1 << 20};
    jinja *t;
    chat_text out;
    if (!vars && json_parse(&vars, STR(vars_text), "vars", NULL) != MOTE_OK) abort();
    if (jinja_parse(&t, (str){(const char *)data, n}, NULL) == MOTE_OK && jinja_render(t, vars, &opts, &out, NULL) == MOTE_OK) {
        size_t at = 0;
        for (size_t i = 0; i < out.n_spans; i++) {
            if (out.spans[i].offset != at || out.spans[i].len == 0) abort();
            at += out.spans[i].len;
        }
        if (at != out.n || !utf8_valid(out.p, out.n)) abort();
        chat_text_free(&out);
    }
    jinja_close(&t);
    return 0;
}
