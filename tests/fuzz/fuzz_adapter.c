/* fuzz_adapter.c: any bytes as a LoRA adapter for a small model: a GGUF file, or (first byte odd) PEFT's two files: a length in two bytes,
 * adapter_config.json, adapter_model.safetensors. What opens has finite shapes within the base's and merges. */
#include "format/adapter.h"
#include "fuzz_files.h"
#include "tiny_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static model_file *base_of(void) {
    static model_file *base;
    tiny_opts o = {.type = QUANT_F32, .seed = 3};
    if (base) return base;
    if (tiny_model_write(fuzz_path("base.gguf"), &o, NULL) != MOTE_OK || model_file_open(&base, fuzz_path("base.gguf"), 0, NULL) != MOTE_OK) abort();
    return base;
}

static void use(const adapter *ad) {
    for (size_t i = 0; i < ad->n; i++) {
        const adapter_pair *p = &ad->pairs[i];
        float *w = calloc(p->rows * p->cols, sizeof *w);
        if (!p->rank || p->rank > ADAPTER_RANK_MAX || adapter_find(ad, p->name) == NULL) abort();
        if (w) (void)adapter_merge(p, 1, w, NULL);
        free(w);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const model_file *base = base_of();
    adapter *ad;
    const char *path;
    if (n < 3) return 0;
    if (data[0] & 1) {
        size_t config = MIN((size_t)data[1] | (size_t)data[2] << 8, n - 3);
        (void)fuzz_file("adapter_config.json", data + 3, config);
        (void)fuzz_file("adapter_model.safetensors", data + 3 + config, n - 3 - config);
        path = fuzz_folder;
    } else {
        path = fuzz_file("f.gguf", data + 1, n - 1);
    }
    if (adapter_open(&ad, path, base, NULL) == MOTE_OK) {
        use(ad);
        adapter_close(&ad);
    }
    return 0;
}
