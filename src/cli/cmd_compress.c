/* cmd_compress.c: recipes of llm-compressor. */
#include "calibration.h"
#include "commands.h"

struct compress_options {
    const char *recipe;
    shrink_flags shrink;
};

const cli_option compress_options[] = {
    OPT_STR(struct compress_options, recipe, "recipe", NULL, "FILE", "the recipe (YAML)"),
    SHRINK_OPTIONS(struct compress_options, shrink),
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
    mote_calibrate_options c = {0};
    return shrink_run(self, &args, o.recipe, &o.shrink, &c);
}
