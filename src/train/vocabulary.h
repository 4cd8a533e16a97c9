/* vocabulary.h: a tokenizer learnt from data files (include/mote/tokenizer.h says what the fields are). */
#ifndef MOTE_TRAIN_VOCABULARY_H
#define MOTE_TRAIN_VOCABULARY_H

#include "base/base.h"
#include "mote/tokenizer.h"

mote_status vocabulary_train(const char *const *paths, size_t n_paths, const char *out, const mote_tokenizer_options *o,
                             mote_tokenizer_report *report, mote_error *err);

#endif
