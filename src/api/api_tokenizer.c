/* api_tokenizer.c: body of mote/tokenizer.h. */
#include "mote/tokenizer.h"

#include "api/api_int.h"
#include "train/vocabulary.h"

mote_status mote_tokenizer_train(const char *const *paths, size_t n_paths, const char *out, const mote_tokenizer_options *options,
                                 mote_tokenizer_report *report, mote_error *err) {
    API_NEED(paths, err);
    API_NEED(out, err);
    API_NEED(options, err);
    return vocabulary_train(paths, n_paths, out, options, report, err);
}
