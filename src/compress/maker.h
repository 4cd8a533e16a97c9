/* maker.h: the insides of mote_make (include/mote/make.h).
 *
 * Invariants
 *   - WORK/KEY/ holds a stage's output; it counts when WORK/KEY/done.json is there, which is written last.
 *   - A key is made of contents, not of paths or times, so that a moved folder still fits and a changed file does not.
 *   - Plans (steps under the time budget) are measured once and kept in WORK/plan.json under the key of what they were measured on: going
 *     on does not change them. What a byte budget measures lies in WORK/sensitivity-MODEL.json. */
#ifndef MOTE_COMPRESS_MAKER_H
#define MOTE_COMPRESS_MAKER_H

#include "base/base.h"
#include "mote/make.h"
#include "run/run.h"

#define MAKE_ARGS_MAX 256
#define MAKE_PATH_MAX 4096

/* A stage's command: trains; gives a model; gives a file beside it; IN OUT are arguments; gives an adapter, which a merge takes up; gives data, by a name of
 * their own. */
enum { MAKE_TRAINS = 1, MAKE_MODEL = 2, MAKE_SIDE = 4, MAKE_IN_OUT = 8, MAKE_ADAPTER = 16, MAKE_MERGES = 32, MAKE_DATA = 64 };
#define MAKE_NAMED_MAX 16

/* What a stage has made, for "{name}" in later ones. */
typedef struct make_named {
    char name[32], path[MAKE_PATH_MAX];
} make_named;

/* What a recipe may say under 'sampling', and the metadata it becomes. */
typedef struct make_sampling_key {
    const char *name, *key;
    bool whole;
} make_sampling_key;
enum { MAKE_SAMPLING_MAX = 8 };
extern const make_sampling_key make_sampling_keys[MAKE_SAMPLING_MAX]; /* ends in a NULL */

typedef struct make_command {
    const char *name;
    int flags;
} make_command;

typedef struct maker {
    const mote_make_options *o;
    mote_make_report *r;
    mote_error *err;
    json_t *recipe, *plan;
    json_t *included; /* the name of each included file -> SHA-256; NULL: none */
    const char *recipe_path;
    char dir[MAKE_PATH_MAX];  /* of the recipe */
    char work[MAKE_PATH_MAX], source[MAKE_PATH_MAX], out[MAKE_PATH_MAX];
    char model[MAKE_PATH_MAX];   /* what the last stage that makes one has made */
    bool ahead;                  /* a dry run is behind a stage that would make another one */
    char imatrix[MAKE_PATH_MAX]; /* "" without */
    char adapter[MAKE_PATH_MAX]; /* of the last finetune, until it is merged; "" without */
    make_named named[MAKE_NAMED_MAX];
    size_t n_named;
    uint64_t target;             /* bytes; 0: none */
    double time;                 /* seconds; 0: none */
    uint64_t began_ns;
    arena mem;                   /* arguments */
    json_t *hashes;              /* path -> "size mtime sha256", of this call */
    /* measuring */
    char eval_text[MAKE_PATH_MAX]; /* "": the calibration text */
    size_t eval_chunks, eval_ctx;
    mote_engine *engine;
    bool smoke;
    double gate_ratio, gate_kld, gate_top; /* 0: none */
} maker;

typedef struct make_args {
    const char *v[MAKE_ARGS_MAX];
    size_t n;
} make_args;

/* make_recipe.c */
mote_status make_read(maker *m, mote_error *err);
/* "40MB", "1.5 GB", 1000 -> bytes (powers of 1000); "90s", "20min", "2h" -> seconds. */
bool make_bytes(const json_t *v, uint64_t *out);
bool make_seconds(const json_t *v, double *out);
/* The command and options of stage i. *options: an object, borrowed, or NULL. */
mote_status make_stage_of(const maker *m, size_t i, const make_command **command, const json_t **options, mote_error *err);
size_t make_n_stages(const maker *m);

/* The options say how long the stage trains. */
bool make_counts_steps(const json_t *options);

/* make_plan.c */
/* "auto": the byte budget as arguments of quantize. */
mote_status make_plan_types(maker *m, make_args *a, mote_error *err);
/* The file that stands for MAKE_SENSITIVITY: of the model that goes in now. */
#define MAKE_SENSITIVITY "{sensitivity}"
mote_status make_sensitivity(maker *m, char out[MAKE_PATH_MAX], mote_error *err);
/* Steps that fit the share of the time that stage i has (the same for all that train), found by trying a few; key: what they are kept under. The
 * stage is told its seconds as well and keeps them itself, over all sittings. */
mote_status make_plan_steps(maker *m, size_t stage, const make_args *a, const char *key, make_args *out, mote_error *err);

/* make_run.c */
mote_status make_recipe(const char *recipe, const mote_make_options *o, mote_make_report *report, mote_error *err);
mote_status make_all(maker *m, mote_error *err);
mote_status make_hash(maker *m, const char *path, char hex[SHA256_HEX], mote_error *err);
/* Whether the path in "FILE" or "FILE:WEIGHT" is there. cut: room for it. */
bool make_is_there(const char *text, char cut[MAKE_PATH_MAX]);
json_t *make_load_json(const char *path); /* NULL: there is none, or it is broken */
mote_status make_save_json(const char *path, const json_t *v, mote_error *err);
mote_status make_put(maker *m, make_args *a, const char *text, mote_error *err); /* copies */

/* make_measure.c */
mote_status make_measure(maker *m, const char *model, mote_make_stage *out, mote_error *err);

/* make_provenance.c */
/* The model, with a note of how it was made, as `out`. */
mote_status make_note(maker *m, const char *out, mote_error *err);

/* make_report.c */
mote_status make_report(maker *m, mote_error *err);

#endif
