/* unicode.c: character classes as tokenizers see them: utf8proc's tables (Unicode 15.0) brought to 15.1. */
#include "token/token_int.h"

#include <utf8proc.h>

/* What Unicode 15.1 added to 15.0: ideographic description characters and CJK extension I. */
static bool newer(uint32_t cp, tok_class *c) {
    if ((cp >= 0x2FFC && cp <= 0x2FFF) || cp == 0x31EF) {
        *c = TOK_CLS_S;
        return true;
    }
    if (cp >= 0x2EBF0 && cp <= 0x2EE5D) {
        *c = TOK_CLS_LO;
        return true;
    }
    return false;
}

bool tok_uni_space(uint32_t cp) {
    if (cp < 0x80) return cp == ' ' || (cp >= 9 && cp <= 13);
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 ||
           cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

tok_class tok_uni_class(uint32_t cp) {
    static const uint8_t of_category[] = {
        [UTF8PROC_CATEGORY_CN] = TOK_CLS_UNASSIGNED, [UTF8PROC_CATEGORY_LU] = TOK_CLS_LU,
        [UTF8PROC_CATEGORY_LL] = TOK_CLS_LL,         [UTF8PROC_CATEGORY_LT] = TOK_CLS_LT,
        [UTF8PROC_CATEGORY_LM] = TOK_CLS_LM,         [UTF8PROC_CATEGORY_LO] = TOK_CLS_LO,
        [UTF8PROC_CATEGORY_MN] = TOK_CLS_M,          [UTF8PROC_CATEGORY_MC] = TOK_CLS_M,
        [UTF8PROC_CATEGORY_ME] = TOK_CLS_M,          [UTF8PROC_CATEGORY_ND] = TOK_CLS_ND,
        [UTF8PROC_CATEGORY_NL] = TOK_CLS_NO,         [UTF8PROC_CATEGORY_NO] = TOK_CLS_NO,
        [UTF8PROC_CATEGORY_PC] = TOK_CLS_P,          [UTF8PROC_CATEGORY_PD] = TOK_CLS_P,
        [UTF8PROC_CATEGORY_PS] = TOK_CLS_P,          [UTF8PROC_CATEGORY_PE] = TOK_CLS_P,
        [UTF8PROC_CATEGORY_PI] = TOK_CLS_P,          [UTF8PROC_CATEGORY_PF] = TOK_CLS_P,
        [UTF8PROC_CATEGORY_PO] = TOK_CLS_P,          [UTF8PROC_CATEGORY_SM] = TOK_CLS_S,
        [UTF8PROC_CATEGORY_SC] = TOK_CLS_S,          [UTF8PROC_CATEGORY_SK] = TOK_CLS_S,
        [UTF8PROC_CATEGORY_SO] = TOK_CLS_S,          [UTF8PROC_CATEGORY_ZS] = TOK_CLS_SPACE,
        [UTF8PROC_CATEGORY_ZL] = TOK_CLS_SPACE,      [UTF8PROC_CATEGORY_ZP] = TOK_CLS_SPACE,
        [UTF8PROC_CATEGORY_CC] = TOK_CLS_CONTROL,    [UTF8PROC_CATEGORY_CF] = TOK_CLS_CONTROL,
        [UTF8PROC_CATEGORY_CS] = TOK_CLS_CONTROL,    [UTF8PROC_CATEGORY_CO] = TOK_CLS_CONTROL,
    };
    tok_class c;
    if (cp > 0x10FFFF) return TOK_CLS_OTHER; /* an invalid byte */
    if (cp >= 0x2FFC && newer(cp, &c)) return c;
    if (tok_uni_space(cp)) return TOK_CLS_SPACE;
    return (tok_class)of_category[utf8proc_category((utf8proc_int32_t)cp)];
}

bool tok_uni_han(uint32_t cp) {
    static const uint32_t ranges[][2] = {
        {0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},   {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F},
        {0x2B740, 0x2B81F}, {0x2B820, 0x2CEAF}, {0x2CEB0, 0x2EBEF}, {0x2F800, 0x2FA1F},
    };
    for (size_t i = 0; i < COUNT_OF(ranges); i++)
        if (cp >= ranges[i][0] && cp <= ranges[i][1]) return true;
    return false;
}

uint32_t tok_uni_lower(uint32_t cp) {
    if (cp < 0x80) return cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
    return cp > 0x10FFFF ? cp : (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}
