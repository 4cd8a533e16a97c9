#include "curl_late.h"
#include "cli.h"

#include <dlfcn.h>
#include <string.h>

#define LIBRARY "libcurl.so.4" /* the binary interface since 2006 */

const curl_late *curl_late_open(void) {
    static curl_late functions;
    static const struct {
        const char *name;
        size_t at;
    } all[] = {
#define CURL_LATE_ENTRY(name) {"curl_" #name, offsetof(curl_late, name)},
        CURL_LATE(CURL_LATE_ENTRY)
#undef CURL_LATE_ENTRY
    };
    static void *library;
    if (library) return &functions;
    void *opened = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; opened && i < sizeof all / sizeof all[0]; i++) {
        void *symbol = dlsym(opened, all[i].name);
        if (!symbol) {
            cli_say("downloading needs a libcurl that has %s", all[i].name);
            (void)dlclose(opened);
            return NULL;
        }
        memcpy((char *)&functions + all[i].at, &symbol, sizeof symbol); /* POSIX: an object pointer holds a function's */
    }
    if (!opened) cli_say("downloading needs libcurl: %s", dlerror());
    library = opened;
    return opened ? &functions : NULL;
}
