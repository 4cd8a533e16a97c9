/* train_recipe.h: recipes of `mote train`. */
#ifndef MOTE_TRAIN_TRAIN_RECIPE_H
#define MOTE_TRAIN_TRAIN_RECIPE_H

#include "train/settings.h"

/* The options with the recipe's values where they are zero. tree and data own what is pointed to. */
typedef struct train_recipe {
    mote_train_options o;
    json_t *tree;
    mote_train_source *data;
} train_recipe;
/* Reads o->recipe, if there is one. E_FORMAT: what is wrong, by key. */
mote_status train_recipe_open(train_recipe *out, const mote_train_options *o, mote_error *err);
void train_recipe_close(train_recipe *r);

#endif
