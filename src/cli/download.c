/* download.c: one file over HTTPS. What has arrived stays in DEST.part; a later call goes on where it stopped, but
 * only when the server says that the file is still the same (If-Range with its ETag or date), which is kept in
 * DEST.part.tag. The file appears under its name only after its hash is right. */
#include "curl_late.h"
#include "models.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define REDIRECTS_MAX 5
#define TAG_MAX 512

typedef struct download {
    const curl_late *lib;
    CURL *curl;
    char *part, *tag_path;
    int fd;
    int64_t have; /* bytes in the part file */
    char tag[TAG_MAX]; /* validator of this answer */
    bool strong;       /* the tag is an ETag, which outranks a date */
    long status;       /* of the answer whose body is being written */
    int64_t range_from;
    bool begun;  /* the first bytes of the body were seen */
    bool failed;
    cli_progress progress;
} download;

/* http is for this machine only: a host name that resolves elsewhere tomorrow does not count as this machine. */
static bool url_allowed(const curl_late *lib, const char *url, bool allow_http) {
    CURLU *u = lib->url();
    char *scheme = NULL, *host = NULL;
    bool ok = u && lib->url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
              lib->url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK && lib->url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK;
    if (ok && strcmp(scheme, "https") != 0)
        ok = strcmp(scheme, "http") == 0 && (allow_http || strcmp(host, "127.0.0.1") == 0 || strcmp(host, "[::1]") == 0 ||
                                             strcmp(host, "localhost") == 0);
    lib->free(scheme);
    lib->free(host);
    lib->url_cleanup(u);
    if (!ok) cli_say("%s: refused: only https is allowed (http to this machine, or with --allow-http)", url);
    return ok;
}

static bool header_value(const char *line, size_t n, const char *name, char *out, size_t cap) {
    size_t len = strlen(name);
    if (n <= len || strncasecmp(line, name, len) != 0) return false;
    while (len < n && line[len] == ' ') len++;
    while (n > len && (line[n - 1] == '\r' || line[n - 1] == '\n' || line[n - 1] == ' ')) n--;
    if (n == len || n - len >= cap) return false;
    memcpy(out, line + len, n - len);
    out[n - len] = 0;
    return true;
}

static size_t on_header(char *line, size_t size, size_t n, void *ctx) {
    download *d = ctx;
    n *= size;
    char value[TAG_MAX];
    if (n > 5 && memcmp(line, "HTTP/", 5) == 0) {
        d->tag[0] = 0;
        d->strong = false;
        d->range_from = -1;
    } else if (header_value(line, n, "etag:", value, sizeof value) && strncmp(value, "W/", 2) != 0) {
        memcpy(d->tag, value, sizeof value);
        d->strong = true;
    } else if (!d->strong && header_value(line, n, "last-modified:", value, sizeof value)) memcpy(d->tag, value, sizeof value);
    else if (header_value(line, n, "content-range:", value, sizeof value) && strncmp(value, "bytes ", 6) == 0)
        d->range_from = strtoll(value + 6, NULL, 10);
    return n;
}

static bool save_tag(const download *d) {
    if (!d->tag[0]) return unlink(d->tag_path) == 0 || errno == ENOENT;
    FILE *f = fopen(d->tag_path, "we");
    if (!f) return false;
    bool ok = fputs(d->tag, f) >= 0;
    return fclose(f) == 0 && ok;
}

/* The first bytes of a body decide: 206 from where we are goes on, anything else begins anew. */
static bool begin_body(download *d) {
    d->begun = true;
    (void)d->lib->easy_getinfo(d->curl, CURLINFO_RESPONSE_CODE, &d->status);
    if (d->status == 206) return d->range_from == d->have;
    if (d->status != 200) return true; /* an error page; it is not written */
    d->have = 0;
    return ftruncate(d->fd, 0) == 0 && lseek(d->fd, 0, SEEK_SET) == 0 && save_tag(d);
}

static size_t on_body(char *p, size_t size, size_t n, void *ctx) {
    download *d = ctx;
    n *= size;
    if (!d->begun && !begin_body(d)) return 0;
    if (d->status != 200 && d->status != 206) return n;
    for (size_t done = 0; done < n;) {
        ssize_t r = write(d->fd, p + done, n - done);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) {
            cli_say("%s: %s", d->part, strerror(errno));
            d->failed = true;
            return 0;
        }
        done += (size_t)r;
    }
    d->have += (int64_t)n;
    return n;
}

static int on_progress(void *ctx, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up_now) {
    (void)up_total;
    (void)up_now;
    download *d = ctx;
    double before = (double)(d->have - now);
    if (total > 0) cli_progress_show(&d->progress, (double)d->have / 1e6, (before + (double)total) / 1e6, "MB");
    return 0;
}

static bool open_part(download *d, const char *dest) {
    size_t n = strlen(dest) + 16;
    d->part = malloc(n);
    d->tag_path = malloc(n);
    if (!d->part || !d->tag_path) return false;
    (void)snprintf(d->part, n, "%s.part", dest);
    (void)snprintf(d->tag_path, n, "%s.part.tag", dest);
    d->fd = open(d->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    struct stat st;
    if (d->fd < 0 || fstat(d->fd, &st) != 0) {
        cli_say("%s: %s", d->part, strerror(errno));
        return false;
    }
    if (flock(d->fd, LOCK_EX | LOCK_NB) != 0) {
        cli_say("%s: another mote is downloading it", d->part);
        return false;
    }
    d->have = lseek(d->fd, 0, SEEK_END);
    return true;
}

/* The validator of what is in the part file, "" when there is none: then the download begins anew. */
static void load_tag(const download *d, char tag[TAG_MAX]) {
    tag[0] = 0;
    FILE *f = d->have > 0 ? fopen(d->tag_path, "re") : NULL;
    if (!f) return;
    if (!fgets(tag, TAG_MAX, f) || strpbrk(tag, "\r\n")) tag[0] = 0;
    (void)fclose(f);
}

static CURLcode request(download *d, const char *url) {
    char tag[TAG_MAX], if_range[TAG_MAX + 16], range[32];
    struct curl_slist *headers = NULL;
    load_tag(d, tag);
    d->begun = d->strong = false;
    (void)d->lib->easy_setopt(d->curl, CURLOPT_URL, url);
    (void)d->lib->easy_setopt(d->curl, CURLOPT_RANGE, NULL);
    if (tag[0]) {
        (void)snprintf(range, sizeof range, "%lld-", (long long)d->have);
        (void)snprintf(if_range, sizeof if_range, "If-Range: %s", tag);
        headers = d->lib->slist_append(NULL, if_range);
        (void)d->lib->easy_setopt(d->curl, CURLOPT_RANGE, range);
    }
    (void)d->lib->easy_setopt(d->curl, CURLOPT_HTTPHEADER, headers);
    CURLcode c = d->lib->easy_perform(d->curl);
    (void)d->lib->easy_setopt(d->curl, CURLOPT_HTTPHEADER, NULL);
    d->lib->slist_free_all(headers);
    if (!d->begun && c == CURLE_OK && !begin_body(d)) c = CURLE_WRITE_ERROR; /* an answer without a body */
    return c;
}

static bool setup(download *d) {
    const curl_late *lib = d->lib;
    d->curl = lib->easy_init();
    if (!d->curl) return false;
    CURL *c = d->curl;
    (void)lib->easy_setopt(c, CURLOPT_PROTOCOLS_STR, "https,http");
    (void)lib->easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L); /* each hop is judged by url_allowed */
    (void)lib->easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 30L);
    (void)lib->easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 100L);
    (void)lib->easy_setopt(c, CURLOPT_LOW_SPEED_TIME, 60L);
    (void)lib->easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)lib->easy_setopt(c, CURLOPT_USERAGENT, "mote");
    (void)lib->easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    (void)lib->easy_setopt(c, CURLOPT_HEADERDATA, d);
    (void)lib->easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    (void)lib->easy_setopt(c, CURLOPT_WRITEDATA, d);
    (void)lib->easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    (void)lib->easy_setopt(c, CURLOPT_XFERINFODATA, d);
    (void)lib->easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    return true;
}

/* Follows redirects and, once, a part file that is longer than the file: 416. */
static int transfer(download *d, const char *url, bool allow_http) {
    char *at = strdup(url);
    int code = CLI_IO;
    for (int hop = 0; at && url_allowed(d->lib, at, allow_http); hop++) {
        CURLcode c = request(d, at);
        if (c != CURLE_OK) {
            if (!d->failed) cli_say("%s: %s", at, d->lib->easy_strerror(c));
            if (d->have > 0) cli_say("what has arrived is kept; the same command goes on from there");
            break;
        }
        if (d->status == 416 && d->have > 0 && hop == 0) {
            d->have = 0;
            (void)unlink(d->tag_path);
            continue;
        }
        if (d->status == 200 || d->status == 206) {
            code = CLI_OK;
            break;
        }
        char *next = NULL;
        (void)d->lib->easy_getinfo(d->curl, CURLINFO_REDIRECT_URL, &next);
        if (!next || hop >= REDIRECTS_MAX) {
            if (next) cli_say("%s: more than %d redirects", url, REDIRECTS_MAX);
            else cli_say("%s: the server answers %ld", at, d->status);
            break;
        }
        char *copy = strdup(next);
        free(at);
        at = copy;
    }
    free(at);
    return code;
}

static int finish(download *d, const char *dest, const char *sha256) {
    if (fsync(d->fd) != 0) {
        cli_say("%s: %s", d->part, strerror(errno));
        return CLI_IO;
    }
    if (sha256 && !models_hash_is(d->part, sha256)) {
        cli_say("%s: the SHA-256 of what was downloaded is not %s; it was thrown away", dest, sha256);
        (void)unlink(d->part);
        (void)unlink(d->tag_path);
        return CLI_BAD_DATA;
    }
    if (rename(d->part, dest) != 0) {
        cli_say("%s: %s", dest, strerror(errno));
        return CLI_IO;
    }
    (void)unlink(d->tag_path);
    return CLI_OK;
}

int models_download(const char *url, const char *dest, const char *sha256, bool allow_http) {
    download d = {.lib = curl_late_open(), .fd = -1};
    int code = CLI_IO;
    if (!d.lib) return CLI_IO;
    if (!url_allowed(d.lib, url, allow_http)) return CLI_USAGE;
    if (d.lib->global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) return CLI_IO;
    if (open_part(&d, dest) && setup(&d)) {
        const char *slash = strrchr(dest, '/');
        d.progress = cli_progress_start(slash ? slash + 1 : dest);
        code = transfer(&d, url, allow_http);
        cli_progress_end(&d.progress);
        if (code == CLI_OK) code = finish(&d, dest, sha256);
        else if (d.have == 0) (void)unlink(d.part);
    }
    if (d.fd >= 0) (void)close(d.fd);
    d.lib->easy_cleanup(d.curl);
    d.lib->global_cleanup();
    free(d.part);
    free(d.tag_path);
    return code;
}
