/* fuzz_hf_quantized.c: any bytes as a Hugging Face folder whose matrices are quantized (GPTQ, AWQ, compressed-tensors, FP8): a length in
 * two bytes, config.json, model.safetensors. What opens is readable to its last byte. */
#include "format/format.h"
#include "fuzz_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    model_file *f;
    unsigned sum = 0;
    if (n < 2) return 0;
    size_t config = MIN((size_t)data[0] | (size_t)data[1] << 8, n - 2);
    (void)fuzz_file("config.json", data + 2, config);
    (void)fuzz_file("model.safetensors", data + 2 + config, n - 2 - config);
    if (model_file_open(&f, fuzz_folder, 0, NULL) == MOTE_OK) {
        for (size_t i = 0; i < model_file_n_tensors(f); i++) {
            const tensor_info *t = model_file_tensor(f, i);
            const unsigned char *p = t->data;
            if (t->size) sum += p[0] + p[t->size - 1];
        }
        model_file_close(&f);
    }
    volatile unsigned read = sum; /* so that the reads are made */
    (void)read;
    return 0;
}
