/* cmd_gradients.c: token ids in, gradients out. */
#include "commands.h"
#include "mote/gradients.h"

struct gradients_options {
    const char *model, *batch, *output, *logits;
    int64_t threads;
    bool bf16, checkpoint, json;
};

const cli_option gradients_options[] = {
    OPT_STR(struct gradients_options, model, "model", "m", "MODEL", "a GGUF file or a Hugging Face folder"),
    OPT_STR(struct gradients_options, batch, "batch", "b", "FILE", "a safetensors file with input_ids, [tokens] or [sequences, tokens]"),
    OPT_STR(struct gradients_options, output, "output", "o", "FILE", "write the gradients here: safetensors, under the model's own tensor names"),
    OPT_STR(struct gradients_options, logits, "logits", NULL, "FILE", "write logits and loss too, as safetensors"),
    OPT_INT(struct gradients_options, threads, "threads", "t", "N", 0, 256, "threads; 0: one per usable core"),
    OPT_FLAG(struct gradients_options, bf16, "bf16", NULL, "products of matrices in bf16, sums in float32"),
    OPT_FLAG(struct gradients_options, checkpoint, "checkpoint", NULL, "compute each layer again on the way back: less memory"),
    OPT_FLAG(struct gradients_options, json, "json", NULL, "print JSON"),
    {0},
};
const cli_example gradients_examples[] = {
    {"mote gradients -m model.gguf --batch batch.safetensors -o gradients.safetensors", "of the mean next-token loss, one tensor for each of the model's"},
    {"mote gradients -m ./SmolLM2-135M -b batch.safetensors -o g.safetensors --bf16", "a Hugging Face folder: its names and shapes; compare precisions"},
    {0},
};

int cmd_gradients(const cli_command *self, int argc, char **argv) {
    struct gradients_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 0, argc, argv, &code)) return code;
    if (!o.model || !o.batch || !o.output) return cli_usage(self, "a model (-m), a batch (--batch) and a place for the gradients (-o) are needed");
    mote_gradients_options g = {.n_threads = (int)o.threads, .bf16 = o.bf16, .checkpoint = o.checkpoint, .logits = o.logits};
    mote_gradients_result r;
    mote_error err;
    if (mote_gradients(o.model, o.batch, o.output, &g, &r, &err) != MOTE_OK) return cli_fail(&err);
    if (o.json)
        return cli_print_json(json_pack("{s:f, s:I, s:I, s:I, s:f, s:f}", "loss", r.loss, "sequences", (json_int_t)r.n_sequences, "tokens", (json_int_t)r.n_tokens,
                                        "tensors", (json_int_t)r.n_tensors, "seconds", r.seconds, "tokens_per_second", (double)r.n_tokens / r.seconds));
    char size[32];
    (void)printf("loss %.6f over %zu tokens in %zu sequences; %zu gradients in %s\n", r.loss, r.n_tokens, r.n_sequences, r.n_tensors, o.output);
    (void)printf("%.2f s, %.0f tokens/s, %s of memory beside weights and gradients\n", r.seconds, (double)r.n_tokens / r.seconds, cli_size(size, r.peak_bytes));
    return cli_done(CLI_OK);
}
