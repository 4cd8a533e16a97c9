/* fuzz_yaml.c: any bytes as YAML. What is read must be a tree that JSON can hold, within the limits. */
#include "base/base.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    json_t *v;
    mote_error e = {0};
    if (yaml_parse(&v, (str){(const char *)data, n}, "fuzz", &e) != MOTE_OK) {
        if (v || !e.message[0]) abort();
        return 0;
    }
    char *text = json_dumps(v, JSON_ENCODE_ANY);
    if (!text) abort();
    free(text);
    json_decref(v);
    return 0;
}
