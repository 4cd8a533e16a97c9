/* cmd_convert.c: a Hugging Face folder (or split GGUF) into one GGUF file. */
#include "commands.h"
#include "mote/convert.h"

#include <sys/stat.h>

struct convert_options {
    const char *type;
    bool json;
};

const cli_option convert_options[] = {
    OPT_CHOICE(struct convert_options, type, "outtype", "t", "auto|f32|f16|bf16|q8_0",
               "number format of the matrices; auto keeps what the checkpoint has"),
    OPT_FLAG(struct convert_options, json, "json", NULL, "print JSON: file, tensors and bytes"),
    {0},
};
const cli_example convert_examples[] = {
    {"mote convert ./SmolLM2-135M model.gguf", "a folder with config.json and safetensors, weights as they are"},
    {"mote convert ./Qwen3-0.6B model.gguf -t q8_0", "and in 8 bits; for smaller ones see mote quantize"},
    {"mote convert big-00001-of-00003.gguf big.gguf", "join a split GGUF"},
    {0},
};

struct state {
    cli_progress bar;
    size_t tensors;
};

static bool show(void *ctx, size_t done, size_t n_tensors, const char *tensor) {
    struct state *s = ctx;
    (void)tensor;
    s->tensors = n_tensors;
    cli_progress_show(&s->bar, (double)done, (double)n_tensors, "tensors");
    return true;
}

int cmd_convert(const cli_command *self, int argc, char **argv) {
    struct convert_options o = {.type = "auto"};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 2, argc, argv, &code)) return code;
    if (args.n != 2) return cli_usage(self, "which folder, and into which file? mote convert FOLDER OUT.gguf");
    struct state s = {.bar = cli_progress_start("converting")};
    mote_convert_options c = {.type = o.type, .progress = show, .progress_ctx = &s};
    mote_error err;
    mote_status status = mote_convert(args.v[0], args.v[1], &c, &err);
    cli_progress_end(&s.bar);
    if (status != MOTE_OK) return cli_fail(&err);
    struct stat st = {0};
    char size[32];
    (void)stat(args.v[1], &st);
    if (o.json)
        return cli_print_json(json_pack("{s:s, s:I, s:I}", "file", args.v[1], "tensors", (json_int_t)s.tensors, "bytes",
                                        (json_int_t)st.st_size));
    (void)printf("%s: %zu tensors, %s\n", args.v[1], s.tensors, cli_size(size, (uint64_t)st.st_size));
    return cli_done(CLI_OK);
}
