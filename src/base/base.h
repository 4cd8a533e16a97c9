/* base.h: everything in src/base. */
#ifndef MOTE_BASE_BASE_H
#define MOTE_BASE_BASE_H
#include "base/arena.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/err.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/le.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/str.h"
#include "base/utf8.h"
#include "base/yaml.h"
#endif
