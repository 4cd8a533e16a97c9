/* cmd_sparsify.c: weights that matter least become zero. */
#include "calibration.h"
#include "commands.h"

#include <stdlib.h>

struct sparsify_options {
    const char *method, *sparsity, *round;
    shrink_flags shrink;
    bool pure;
};

const cli_option sparsify_options[] = {
    OPT_CHOICE(struct sparsify_options, method, "method", NULL, "sparsegpt|wanda|magnitude", "which weights go, and whether the others make up for them"),
    OPT_STR(struct sparsify_options, sparsity, "sparsity", NULL, "SHARE", "0.5: half of the weights; 2:4: two of each four neighbours stay"),
    OPT_CHOICE(struct sparsify_options, round, "round", NULL, "nearest|gptq", "how what stays is rounded to TYPE"),
    OPT_FLAG(struct sparsify_options, pure, "pure", NULL, "one format for all tensors, no mixture"),
    SHRINK_OPTIONS(struct sparsify_options, shrink),
    {0},
};
const cli_example sparsify_examples[] = {
    {"mote sparsify --sparsity 0.5 --calibration text.txt f16.gguf half.gguf", "half of the weights of each layer, by SparseGPT"},
    {"mote sparsify --sparsity 2:4 --round gptq --calibration text.txt f16.gguf out.gguf Q4_0", "two of four, and rounded to 4 bits in the same pass"},
    {"mote sparsify --method magnitude --sparsity 0.3 --calibration text.txt f16.gguf out.gguf", "the naive way, for comparison"},
    {0},
};

/* "0.5" or "2:4". */
static bool parse_sparsity(const char *text, mote_calibrate_options *o) {
    char *end;
    double v = strtod(text, &end);
    if (*end == ':' && v >= 1 && v < 32 && v == (double)(int)v) {
        char *end2;
        long of = strtol(end + 1, &end2, 10);
        o->keep = (int)v;
        o->of = (int)of;
        return end2 != end + 1 && !*end2 && of > o->keep && of <= 32;
    }
    o->sparsity = v;
    return end != text && !*end && v > 0 && v < 1;
}

int cmd_sparsify(const cli_command *self, int argc, char **argv) {
    struct sparsify_options o = {.method = "sparsegpt", .round = "nearest"};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 3, argc, argv, &code)) return code;
    if (args.n < 2) return cli_usage(self, "expected IN OUT, as in: mote sparsify --sparsity 0.5 --calibration text.txt f16.gguf half.gguf");
    mote_calibrate_options c = {.prune = o.method, .round = o.round, .quantize = {.pure = o.pure}};
    if (!o.sparsity || !parse_sparsity(o.sparsity, &c)) return cli_usage(self, "--sparsity takes a share like 0.5, or N:M like 2:4");
    return shrink_run(self, &args, NULL, &o.shrink, &c);
}
