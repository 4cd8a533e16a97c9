/* models.h: from the name a user typed to a file: a path, a model in the cache folder, a catalogue entry. */
#ifndef MOTE_CLI_MODELS_H
#define MOTE_CLI_MODELS_H

#include "cli.h"

/* The folder models are kept in: $MOTE_MODELS, $XDG_CACHE_HOME/mote/models or ~/.cache/mote/models.
 * Caller frees; NULL after a message when there is no home. */
char *models_dir(void);
/* "dir/name" in new memory; the program stops with a message when out of memory. */
char *models_join(const char *dir, const char *name);
bool models_mkdirs(const char *dir); /* with parents; false after a message */

/* The catalogue that is built into the program: a JSON array (src/cli/catalogue.json), parsed once; the default is the first that says so. */
const json_t *models_catalogue(void);
/* The folder of the models that came with the program; caller frees, NULL: there is none. */
char *models_bundle_dir(void);
/* Where the model lies that came with the program ("bundled": true); caller frees, NULL: it is another. The catalogue holds no such model that is
 * not there. */
char *models_bundled(const json_t *entry);
const json_t *models_catalogue_find(const char *name); /* NULL: the default entry; else NULL when absent */
const char *models_entry_text(const json_t *entry, const char *key); /* "" when absent */

/* Fetches the files of a catalogue entry that are missing. Returns an exit code. */
int models_fetch(const json_t *entry);
/* Fetches url into the file dest (temporary file, resumed where it stopped, hash, rename). sha256: 64 hex digits
 * or NULL. http is refused except to this machine, or with allow_http. Returns an exit code. */
int models_download(const char *url, const char *dest, const char *sha256, bool allow_http);
/* True when path's SHA-256 is `sha256`. */
bool models_hash_is(const char *path, const char *sha256);

/* The path that `name` stands for; NULL: the default model. A catalogue model that is missing is fetched first,
 * and said so. Caller frees; NULL after a message, *exit_code is set. */
char *models_resolve(const char *name, int *exit_code);
/* The path of a model in the cache folder, by its name, its file's name or its catalogue name. Caller frees; NULL when
 * it is not there. */
char *models_in_cache(const char *name);
/* True when a single word names a model: an existing path, a file in the cache, or a catalogue entry. */
bool models_names_one(const char *word);
#endif
