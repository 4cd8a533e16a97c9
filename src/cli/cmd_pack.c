/* cmd_pack.c: a model file entropy-coded for the disk, or in formats that other engines read. */
#include "commands.h"
#include "mote/pack.h"

struct pack_options {
    bool json;
};

const cli_option pack_options[] = {OPT_FLAG(struct pack_options, json, "json", NULL, "print JSON: tensors, weights and bytes"), {0}};
const cli_option export_options[] = {OPT_FLAG(struct pack_options, json, "json", NULL, "print JSON: tensors, weights and bytes"), {0}};
const cli_example pack_examples[] = {
    {"mote pack model-q4_1.gguf small.gguf", "a published file, the same weights in about an eighth less"},
    {"mote quantize f32.gguf q3.gguf Q3_96 && mote pack q3.gguf small.gguf", "the same weights in about an eighth less"},
    {0},
};
const cli_example export_examples[] = {
    {"mote export small.gguf standard.gguf", "what llama.cpp runs, with the very same weights"},
    {0},
};

typedef mote_status pack_fn(const char *in, const char *out, mote_pack_result *r, mote_error *err);

static int run(const cli_command *self, int argc, char **argv, pack_fn *fn) {
    struct pack_options o = {0};
    cli_args args;
    int code;
    mote_error err;
    mote_pack_result r = {.size = sizeof r};
    if (!cli_parse(self, &o, &args, 2, argc, argv, &code)) return code;
    if (args.n != 2) return cli_usage(self, "which model, and into which file?");
    if (fn(args.v[0], args.v[1], &r, &err) != MOTE_OK) return cli_fail(&err);
    if (o.json)
        return cli_print_json(json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "file", args.v[1], "tensors", (json_int_t)r.n_tensors, "changed",
                                        (json_int_t)r.n_changed, "weights", (json_int_t)r.n_weights, "bytes_from", (json_int_t)r.bytes_from, "bytes_to",
                                        (json_int_t)r.bytes_to, "file_from", (json_int_t)r.file_from, "file_to", (json_int_t)r.file_to));
    char from[32], to[32];
    (void)printf("%s: %zu of %zu tensors changed, %s -> %s", args.v[1], r.n_changed, r.n_tensors, cli_size(from, r.file_from), cli_size(to, r.file_to));
    if (r.n_weights) (void)printf(" (%.3f -> %.3f bits per weight)", 8.0 * (double)r.bytes_from / (double)r.n_weights, 8.0 * (double)r.bytes_to / (double)r.n_weights);
    (void)putchar('\n');
    return cli_done(CLI_OK);
}

int cmd_pack(const cli_command *self, int argc, char **argv) { return run(self, argc, argv, mote_pack); }
int cmd_export(const cli_command *self, int argc, char **argv) { return run(self, argc, argv, mote_export); }
