/* cmd_compress.c: recipes of llm-compressor. */
#include "calibration.h"
#include "commands.h"
#include "common.h"
#include "models.h"

#include <stdlib.h>

struct compress_options {
    const char *recipe, *output_type, *embedding_type;
    cli_list tensor_types;
    calibration_flags cal;
    int64_t threads;
    bool allow_requantize, quiet, json;
};

const cli_option compress_options[] = {
    OPT_STR(struct compress_options, recipe, "recipe", NULL, "FILE", "the recipe (YAML)"),
    CALIBRATION_OPTIONS(struct compress_options, cal),
    OPT_LIST(struct compress_options, tensor_types, "tensor-type", NULL, "REGEX=TYPE", "number format of the tensors whose name matches; the first that matches counts"),
    OPT_STR(struct compress_options, output_type, "output-tensor-type", NULL, "TYPE", "number format of output.weight"),
    OPT_STR(struct compress_options, embedding_type, "token-embedding-type", NULL, "TYPE", "number format of the token embeddings"),
    OPT_FLAG(struct compress_options, allow_requantize, "allow-requantize", NULL, "also from formats that are quantized already, which costs quality"),
    OPT_INT(struct compress_options, threads, "threads", "t", "N", 0, 256, "threads (0: one per core)"),
    OPT_FLAG(struct compress_options, quiet, "quiet", "q", "print the totals and the fallbacks only"),
    OPT_FLAG(struct compress_options, json, "json", NULL, "print the report as JSON"),
    {0},
};
const cli_example compress_examples[] = {
    {"mote compress --recipe w4a16.yaml --calibration text.txt model/ out.gguf", "a Hugging Face folder, by a recipe as it is"},
    {"mote compress --recipe sparse.yaml --calibration text.txt f16.gguf out.gguf Q5_0", "the recipe's methods, in a format of one's own choice"},
    {0},
};

int cmd_compress(const cli_command *self, int argc, char **argv) {
    struct compress_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 3, argc, argv, &code)) return code;
    if (args.n < 2 || !o.recipe) return cli_usage(self, "expected IN OUT and a recipe, as in: mote compress --recipe w4a16.yaml --calibration text.txt f16.gguf out.gguf");
    mote_tensor_type overrides[CLI_LIST_MAX] = {{0}};
    char *in = models_resolve(args.v[0], &code);
    if (!in) return code;
    code = overrides_split(self, &o.tensor_types, overrides);
    if (code == CLI_OK) {
        mote_calibrate_options c = {.quantize = {.type = args.n > 2 ? args.v[2] : NULL, .overrides = overrides, .n_overrides = o.tensor_types.n,
            .output_format = o.output_type, .token_embedding_format = o.embedding_type, .allow_requantize = o.allow_requantize,
            .n_threads = (int)o.threads}};
        calibration_fill(&o.cal, &c);
        code = calibration_run(in, args.v[1], o.recipe, &c, o.quiet, o.json);
    }
    overrides_free(overrides, o.tensor_types.n);
    free(in);
    return code;
}
