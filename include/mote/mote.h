/* mote.h: the whole library in one include.
 *
 * Tiers, simple to advanced; each builds on those before it and may be mixed with them:
 *
 *   generate.h   a prompt or a message in, streamed text out; embeddings
 *   session.h    caches of sequences: feed ids, read logits, reuse prefixes, save, restore
 *   speculate.h  several tokens per pass
 *   sampling.h   logits in, a token out
 *   engine.h     threads, models, what a model file says
 *   tokens.h     text to ids and back
 *   template.h   chat templates
 *   eval.h       perplexity, divergence, speed
 *   train.h      training
 *
 *     mote_engine *e = NULL; mote_model *m = NULL; mote_session *s = NULL; mote_error err;
 *     if (mote_engine_open(&e, NULL, &err) || mote_model_open(&m, e, "model.gguf", NULL, &err) ||
 *         mote_session_open(&s, m, NULL, &err) ||
 *         mote_complete(s, 0, "Once upon a time", 16, NULL, NULL, &err)) puts(err.message);
 *     mote_session_close(&s); mote_model_close(&m); mote_engine_close(&e);
 *
 * Conventions.
 *   Objects are opaque: mote_x_open(&x, …) makes one, mote_x_close(&x) frees it and sets x to NULL. An object
 *   keeps what it was made from, so the order of closing does not matter.
 *
 *   Options: `mote_x_opts o = mote_x_opts_default();`, then change fields. NULL means the defaults. The structs
 *   may grow at their end in later versions: `size` tells the library how much of one the program knows.
 *   Results are structs that begin with `size`, set by the caller: `mote_gen_result r = {.size = sizeof r};`.
 *
 *   Text and ids go to (dst, cap) and the number needed comes back, so that one may ask first (cap 0) and
 *   fetch then; text is NUL-terminated where room is left, and the NUL is not counted.
 *   Text is UTF-8 with a length; it need not end in NUL.
 *
 *   Errors: see status.h. The library prints nothing, reads no environment, never exits.
 *
 *   Threads: an engine and a model may be used from any thread at any time; a session, a chat, a sampler and
 *   a detokenizer by one thread at a time (mote_session_cancel excepted). Sessions of one engine take turns. */
#ifndef MOTE_MOTE_H
#define MOTE_MOTE_H

#include "mote/choose.h"
#include "mote/convert.h"
#include "mote/pack.h"
#include "mote/make.h"
#include "mote/prepare.h"
#include "mote/distill.h"
#include "mote/engine.h"
#include "mote/eval.h"
#include "mote/finetune.h"
#include "mote/generate.h"
#include "mote/guard.h"
#include "mote/prune.h"
#include "mote/merge.h"
#include "mote/sampling.h"
#include "mote/session.h"
#include "mote/speculate.h"
#include "mote/status.h"
#include "mote/tasks.h"
#include "mote/template.h"
#include "mote/tokenizer.h"
#include "mote/tokens.h"
#include "mote/train_heads.h"
#include "mote/train.h"
#include "mote/version.h"

#endif
