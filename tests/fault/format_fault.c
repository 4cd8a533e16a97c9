/* format_fault.c: opening, writing and converting models while memory, reads and writes fail. */
#include "fault.h"
#include "format/edit.h"
#include "format/format_convert.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[] = "/tmp/mote_fault_XXXXXX";
static char config[300], gguf[300], out[300], hf_dir[300];

static bool put(const char *path, const char *text) {
    FILE *f = fopen(path, "wb");
    return f && fputs(text, f) >= 0 && fclose(f) == 0;
}

static bool make_models(void) {
    static const float values[64] = {1, 2, 3};
    char path[400];
    if (!mkdtemp(folder)) return false;
    (void)snprintf(config, sizeof config, "%s/config.json", folder);
    (void)snprintf(gguf, sizeof gguf, "%s/a.gguf", folder);
    (void)snprintf(out, sizeof out, "%s/out.gguf", folder);
    (void)snprintf(hf_dir, sizeof hf_dir, "%s", folder);
    const unsigned char *data = (const unsigned char *)values;
    const st_tensor t[] = {
        {.name = STR("model.embed_tokens.weight"),
         .dtype = STR("F32"),
         .n_dims = 2,
         .shape = {8, 8},
         .data = data,
         .size = 256},
        {.name = STR("model.norm.weight"),
         .dtype = STR("F32"),
         .n_dims = 1,
         .shape = {8},
         .data = data,
         .size = 32},
        {.name = STR("model.layers.0.self_attn.q_proj.weight"),
         .dtype = STR("F32"),
         .n_dims = 2,
         .shape = {8, 8},
         .data = data,
         .size = 256},
        {.name = STR("model.layers.0.mlp.experts.0.up_proj.weight"),
         .dtype = STR("F32"),
         .n_dims = 2,
         .shape = {4, 8},
         .data = data,
         .size = 128},
    };
    (void)snprintf(path, sizeof path, "%s/model.safetensors", folder);
    if (st_write(path, t, COUNT_OF(t), NULL, NULL) != MOTE_OK) return false;
    (void)snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    if (!put(path, "{\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true}],\"pre_tokenizer\":{"
                   "\"type\":\"ByteLevel\"},"
                   "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}}"))
        return false;
    (void)snprintf(path, sizeof path, "%s/tokenizer_config.json", folder);
    if (!put(path, "{\"bos_token\":\"<s>\",\"chat_template\":\"x\"}")) return false;
    return put(config,
               "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":8,\"num_attention_heads\":2,"
               "\"num_hidden_layers\":1,\"vocab_size\":8,\"num_local_experts\":1,\"rope_parameters\":"
               "{\"rope_theta\":1e4,\"rope_type\":\"llama3\",\"original_max_position_embeddings\":64}}");
}

static mote_status convert(void *ctx, mote_error *err) {
    (void)ctx;
    return format_convert(hf_dir, out, &(convert_opts){.type = QUANT_F16}, err);
}

static mote_status edit(void *ctx, mote_error *err) {
    (void)ctx;
    static const float x[16] = {1, 2, 3};
    static const str texts[] = {{"a", 1}, {"b", 1}};
    static const uint64_t ne[] = {8, 2};
    model_file *f = NULL;
    model_edit *e = NULL;
    mote_status s;
    TRYG(s, model_file_open(&f, gguf, 0, err));
    TRYG(s, edit_open(&e, f, err));
    TRYG(s, edit_set_str(e, "general.name", STR("changed"), err));
    TRYG(s, edit_set_kv(e, &(kv){.key = STR("k"), .type = KV_ARRAY, .elem = KV_STRING, .count = 2, .strings = texts},
                        err));
    TRYG(s, edit_put(e, STR("more.weight"), QUANT_F16, 2, ne, x, NULL, err));
    TRYG(s, edit_rename(e, STR("output_norm.weight"), STR("norm.weight"), err));
    s = edit_write(e, out, err);
out:
    edit_close(&e);
    model_file_close(&f);
    return s;
}

/* Either the whole file or nothing, and no temporary one. */
static bool whole_or_nothing(void *ctx, mote_status s) {
    (void)ctx;
    bool good = (access(out, F_OK) == 0) == (s == MOTE_OK);
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strstr(e->d_name, "out.gguf.")) good = false;
    if (d) closedir(d);
    (void)unlink(out);
    return good;
}

static mote_status load(void *ctx, mote_error *err) {
    const char *const *what = ctx;
    for (int flags = 0; flags <= MODEL_FILE_NO_MMAP; flags++) {
        model_file *f;
        TRY(model_file_open(&f, *what, flags | MODEL_FILE_VOCAB, err));
        model_file_close(&f);
    }
    return MOTE_OK;
}

static bool ignore(void *ctx, mote_status s) {
    (void)ctx, (void)s;
    return true;
}

/* Runs work with its 1st, 2nd, 3rd … call of a kind failing, alone or with all after it, until a run needs no
 * more: that one must succeed. A failure must come back as a status with a message, and leave nothing
 * allocated. */
static bool each(const char *name, mote_status (*work)(void *ctx, mote_error *err),
                 bool (*after)(void *ctx, mote_status s), void *ctx) {
    for (int how = 0; how < 6; how++) {
        enum fault_kind kind = how % 3 == 0 ? FAULT_ALLOC : how % 3 == 1 ? FAULT_READ : FAULT_WRITE;
        bool happened = true;
        for (size_t n = 1; happened; n++) {
            mote_error err = {0};
            size_t live = fault_live();
            fault_arm(kind, n, how >= 3);
            mote_status s = work(ctx, &err);
            happened = fault_happened();
            fault_disarm();
            bool leaks = fault_live() != live,
                 good = s == MOTE_OK || (happened && err.message[0] && err.code == s);
            if (!after(ctx, s)) good = false;
            if (good && !leaks && n < 100000) continue;
            fprintf(stderr, "%s, fault %d, call %zu: %s (%s)%s\n", name, (int)kind, n, mote_status_name(s),
                    err.message, leaks ? ", leaks" : "");
            return false;
        }
    }
    return true;
}

int main(void) {
    fault_init();
    const char *dir = hf_dir, *file = gguf;
    bool good = make_models() && format_convert(hf_dir, gguf, &(convert_opts){.type = -1}, NULL) == MOTE_OK;
    good = good && each("open a GGUF", load, ignore, &file);
    good = good && each("open a folder", load, ignore, &dir);
    good = good && each("convert a folder", convert, whole_or_nothing, NULL);
    good = good && each("edit a GGUF", edit, whole_or_nothing, NULL);
    char command[340];
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) == 0 && good ? 0 : 1;
}
