/* fuzz_train_data.c: any bytes as a file to train on: the first byte says as what kind and how strictly. Every item lies in the file and has
 * a text. */
#include "fuzz_files.h"
#include "train/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    if (!n) return 0;
    const char *path = fuzz_file(bytes[0] & 8 ? "f.jsonl" : "f", bytes + 1, n - 1);
    data_source source = {.path = path, .kind = (data_kind)((bytes[0] & 7) % (DATA_PAIRS + 1))};
    data_opts o = {.sources = &source, .n_sources = 1, .part_bytes = 64, .max_line_bytes = 4096, .strict = bytes[0] & 16,
                   .held_out = bytes[0] & 32 ? 0.5 : 0, .split = bytes[0] & 64 ? DATA_HELD : DATA_ALL};
    mote_error err;
    data *d;
    if (data_open(&d, &o, &err) != MOTE_OK) {
        if (d || !err.message[0]) abort();
        return 0;
    }
    if (data_source_kind(d, 0) == DATA_AUTO) abort();
    for (size_t i = 0; i < data_n_items(d); i++) {
        data_kind kind;
        const char *file;
        str b = data_item_bytes(d, i, &kind, &file);
        buf text;
        if (!b.n || b.n > n - 1 || strcmp(file, path) != 0) abort();
        buf_init(&text, 1 << 20);
        (void)data_item_text(d, i, &text, &err);
        buf_free(&text);
    }
    data_close(&d);
    return 0;
}
