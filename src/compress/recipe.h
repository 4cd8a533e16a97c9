/* recipe.h: llm-compressor's recipes as options of the calibrated methods.
 *
 * A recipe is YAML: stages hold groups of modifiers, in the order in which they act. What follows one another there is done
 * in one pass over the layers here: at most one modifier that scales (AWQModifier, SmoothQuantModifier), one that prunes
 * (SparseGPTModifier, WandaPruningModifier) and one that rounds (GPTQModifier, AWQModifier, AutoRoundModifier,
 * QuantizationModifier). Anything unknown is refused by name: a recipe is never half followed. */
#ifndef MOTE_COMPRESS_RECIPE_H
#define MOTE_COMPRESS_RECIPE_H

#include "base/json.h"
#include "format/format.h"
#include "mote/calibrate.h"

typedef struct recipe {
    mote_calibrate_options o;   /* strings and arrays lie in mem or in the tree */
    json_t *tree;
    arena mem;
    const char *type;           /* the GGUF type its scheme stands for, or NULL: it does not round */
    const char **targets, **ignore; /* regular expressions on the names of modules */
    size_t n_targets, n_ignore;
} recipe;

/* Reads the file into r->o, which starts as *base. recipe_free in any case. */
mote_status recipe_open(recipe *r, const char *path, const mote_calibrate_options *base, mote_error *err);
/* The same from the text of one; name: for messages. */
mote_status recipe_parse(recipe *r, str text, const char *name, const mote_calibrate_options *base, mote_error *err);
/* Adds what the recipe says about this model's tensors: those that are not its targets keep 16 bits (or what they have). */
mote_status recipe_bind(recipe *r, const model_file *f, mote_error *err);
void recipe_free(recipe *r);

/* The name that Hugging Face's Llama-like models have for a tensor's module ("model.layers.3.self_attn.q_proj"), or the tensor's
 * own name without ".weight". Returns dst. */
const char *recipe_module(str tensor, char *dst, size_t cap);

#endif
