/* eval_python.c: what lm-evaluation-harness leaves to Python.
 * Source: Matsumoto and Nishimura 1998 (MT19937); CPython's Lib/random.py documentation of sample(): a pool for small
 * populations, rejection by a set of chosen ones for large. */
#include "run/eval_tasks.h"

#include <utf8proc.h>

/* ---- the generator ---- */
static void mt_seed_word(py_random *r, uint32_t seed) {
    r->mt[0] = seed;
    for (uint32_t i = 1; i < 624; i++) r->mt[i] = 1812433253u * (r->mt[i - 1] ^ r->mt[i - 1] >> 30) + i;
    r->at = 624;
}

/* init_by_array with the seed's 32-bit digits, as Python seeds from an integer. */
void py_seed(py_random *r, uint64_t seed) {
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    size_t n = key[1] ? 2 : 1, i = 1, j = 0;
    mt_seed_word(r, 19650218u);
    for (size_t k = 0; k < 624; k++) {
        r->mt[i] = (r->mt[i] ^ (r->mt[i - 1] ^ r->mt[i - 1] >> 30) * 1664525u) + key[j] + (uint32_t)j;
        if (++i == 624) {
            r->mt[0] = r->mt[623];
            i = 1;
        }
        j = (j + 1) % n;
    }
    for (size_t k = 0; k < 623; k++) {
        r->mt[i] = (r->mt[i] ^ (r->mt[i - 1] ^ r->mt[i - 1] >> 30) * 1566083941u) - (uint32_t)i;
        if (++i == 624) {
            r->mt[0] = r->mt[623];
            i = 1;
        }
    }
    r->mt[0] = 0x80000000u;
    r->at = 624;
}

static uint32_t mt_next(py_random *r) {
    if (r->at == 624) {
        for (size_t i = 0; i < 624; i++) {
            uint32_t y = (r->mt[i] & 0x80000000u) | (r->mt[(i + 1) % 624] & 0x7fffffffu);
            r->mt[i] = r->mt[(i + 397) % 624] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        r->at = 0;
    }
    uint32_t y = r->mt[r->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

/* A number below n (n ≤ 2^32): as many bits as n has, drawn until they are small enough. */
static size_t below(py_random *r, size_t n) {
    int bits = 0;
    while (bits < 32 && n >> bits) bits++;
    size_t v;
    do v = mt_next(r) >> (32 - bits);
    while (v >= n);
    return v;
}

bool py_sample(py_random *r, size_t n, size_t k, size_t *out) {
    size_t set_size = 21, k3 = 1;
    if (k > 5) { /* the size of a table for a set of k */
        while (k3 <= k * 3) k3 *= 4;
        set_size += k3;
    }
    if (n <= set_size) {
        size_t *left = MEM_NEW_N(size_t, n ? n : 1);
        if (!left) return false;
        for (size_t i = 0; i < n; i++) left[i] = i;
        for (size_t i = 0; i < k; i++) {
            size_t j = below(r, n - i);
            out[i] = left[j];
            left[j] = left[n - i - 1];
        }
        mem_free(left);
        return true;
    }
    for (size_t i = 0; i < k; i++) {
        bool taken;
        do {
            out[i] = below(r, n);
            taken = false;
            for (size_t j = 0; j < i; j++) taken |= out[j] == out[i];
        } while (taken);
    }
    return true;
}

/* ---- text ---- */
bool py_is_space(uint32_t cp) {
    if ((cp >= 9 && cp <= 13) || (cp >= 0x1c && cp <= 0x20) || cp == 0x85 || cp == 0xa0) return true;
    return cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

str py_rstrip(str s) {
    while (s.n) {
        size_t at = s.n - 1;
        uint32_t cp;
        while (at > 0 && ((unsigned char)s.p[at] & 0xc0) == 0x80 && s.n - at < 4) at--;
        if (utf8_decode(s.p + at, s.n - at, &cp) != s.n - at || !py_is_space(cp)) break;
        s.n = at;
    }
    return s;
}

str py_strip(str s) {
    while (s.n) {
        uint32_t cp;
        size_t k = utf8_decode(s.p, s.n, &cp);
        if (!py_is_space(cp)) break;
        s = str_sub(s, k, s.n - k);
    }
    return py_rstrip(s);
}

static void map_letters(buf *out, str s, utf8proc_int32_t (*first)(utf8proc_int32_t), utf8proc_int32_t (*rest)(utf8proc_int32_t)) {
    bool begun = false;
    while (s.n) {
        uint32_t cp;
        char c[4];
        size_t k = utf8_decode(s.p, s.n, &cp);
        if (cp == UTF8_BAD) buf_put(out, s.p, 1);
        else buf_put(out, c, utf8_encode((uint32_t)(begun ? rest : first)((utf8proc_int32_t)cp), c));
        begun = true;
        s = str_sub(s, k, s.n - k);
    }
}

void py_capitalize(buf *out, str s) { map_letters(out, s, utf8proc_totitle, utf8proc_tolower); }
void py_lower(buf *out, str s) { map_letters(out, s, utf8proc_tolower, utf8proc_tolower); }
void py_upper(buf *out, str s) { map_letters(out, s, utf8proc_toupper, utf8proc_toupper); }
