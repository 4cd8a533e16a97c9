#include "base/hash.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <unistd.h>

struct sha256 {
    EVP_MD_CTX *ctx;
};

sha256 *sha256_new(void) {
    sha256 *h = MEM_NEW(sha256);
    if (!h) return NULL;
    h->ctx = EVP_MD_CTX_new();
    if (!h->ctx || EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1) {
        sha256_free(h);
        return NULL;
    }
    return h;
}

void sha256_update(sha256 *h, const void *p, size_t n) { (void)EVP_DigestUpdate(h->ctx, p, n); }

void sha256_final(sha256 *h, char hex[SHA256_HEX]) {
    static const char digit[] = "0123456789abcdef";
    unsigned char raw[EVP_MAX_MD_SIZE] = {0};
    (void)EVP_DigestFinal_ex(h->ctx, raw, NULL);
    for (int i = 0; i < 32; i++) {
        hex[2 * i] = digit[raw[i] >> 4];
        hex[2 * i + 1] = digit[raw[i] & 15];
    }
    hex[64] = 0;
    (void)EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL);
}

void sha256_free(sha256 *h) {
    if (!h) return;
    EVP_MD_CTX_free(h->ctx);
    mem_free(h);
}

mote_status sha256_file(const char *path, char hex[SHA256_HEX], mote_error *err) {
    mote_status s = MOTE_OK;
    sha256 *h = NULL;
    char *chunk = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) FAIL(err, MOTE_E_IO, "%s: %s", path, strerror(errno));
    h = sha256_new();
    chunk = mem_calloc(1 << 20, 1);
    if (!h || !chunk) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    for (;;) {
        ssize_t n = read(fd, chunk, 1 << 20);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) FAILG(s, err, MOTE_E_IO, "%s: %s", path, strerror(errno));
        if (n == 0) break;
        sha256_update(h, chunk, (size_t)n);
    }
    sha256_final(h, hex);
out:
    mem_free(chunk);
    sha256_free(h);
    close(fd);
    return s;
}
