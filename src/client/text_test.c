/* Texts on a terminal: nothing in them controls it, and columns are as wide as they look. */
#include "client/terminal.h"
#include "client/text.h"

#include "wire/test.h"

#include <locale.h>

static int have_utf8(void **state)
{
	return setlocale(LC_CTYPE, "C.UTF-8") ? 0 : -1;
}

static const struct {
	const char *text, *clean, *ascii;
} cleaned[] = {
	{"plain", "plain", "plain"},
	{"", "", ""},
	{"a\nb\tc\r", "a b c ", "a b c "},
	{"\033[31mred\033[0m", "?[31mred?[0m", "?[31mred?[0m"},
	{"bell\a back\b del\177", "bell? back? del?", "bell? back? del?"},
	{"C1 \302\233 31m", "C1 ? 31m", "C1 ? 31m"},                 /* CSI in one character */
	{"right \342\200\256 left", "right ? left", "right ? left"}, /* U+202E */
	{"\342\200\213hidden\357\273\277", "?hidden?", "?hidden?"},  /* U+200B, U+FEFF */
	{"isolate\342\201\246x", "isolate?x", "isolate?x"},          /* U+2066 */
	{"tag\363\240\201\201", "tag?", "tag?"},                     /* U+E0041 */
	{"gr\303\266\303\237e", "gr\303\266\303\237e", "gr??e"},
	{"\346\227\245\346\234\254", "\346\227\245\346\234\254", "??"},
	{"\377\376", "\357\277\275\357\277\275", "??"},                  /* no UTF-8 */
	{"\300\257", "\357\277\275\357\277\275", "??"},                  /* a slash, longer than needed */
	{"\355\240\200", "\357\277\275\357\277\275\357\277\275", "???"}, /* half a surrogate */
	{"cut\342\202", "cut\357\277\275\357\277\275", "cut??"},
};

static void test_cleans(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(cleaned); i++) {
		struct buf b = BUF_INIT(1000);

		buf_add_clean(&b, cleaned[i].text, strlen(cleaned[i].text), /* unicode= */ true);
		assert_string_equal(buf_cstr(&b), cleaned[i].clean);
		buf_clear(&b);
		buf_add_clean(&b, cleaned[i].text, strlen(cleaned[i].text), /* unicode= */ false);
		assert_string_equal(buf_cstr(&b), cleaned[i].ascii);
		buf_free(&b);
	}
}

static void test_a_nul_shows(void **state)
{
	struct buf b = BUF_INIT(100);

	buf_add_clean(&b, "a\0b", 3, true);
	assert_int_equal(b.len, 5);
	assert_memory_equal(b.bytes, "a\357\277\275b", 5);
	buf_free(&b);
}

static const struct {
	const char *text;
	size_t width;
	bool right;
	const char *column;
} columns[] = {
	{"abc", 5, false, "abc  "},
	{"abc", 5, true, "  abc"},
	{"abcdef", 5, false, "abcd~"},
	{"abcde", 5, false, "abcde"},
	{"abc", 1, false, "~"},
	{"abc", 0, false, ""},
	{"", 2, false, "  "},
	{"\346\227\245\346\234\254\350\252\236", 6, false, "\346\227\245\346\234\254\350\252\236"},
	{"\346\227\245\346\234\254\350\252\236", 5, false, "\346\227\245\346\234\254~"},
	{"\346\227\245\346\234\254\350\252\236", 4, false, "\346\227\245~ "}, /* half a character is none */
	{"123456", 4, true, "123~"},
	{"\346\227\245\346\234\254\350\252\236", 4, true, "\346\227\245~ "},
};

static void test_columns(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		struct buf b = BUF_INIT(1000);

		buf_add_column(&b, columns[i].text, columns[i].width, columns[i].right);
		assert_string_equal(buf_cstr(&b), columns[i].column);
		assert_int_equal(text_width(buf_cstr(&b)), columns[i].width);
		buf_free(&b);
	}
}

static const struct {
	const char *bytes;
	uint32_t keys[5];
} keys[] = {
	{"q", {'q'}},
	{"\033[A\033[B", {KEY_UP, KEY_DOWN}},
	{"\033OA", {KEY_UP}},
	{"\033", {KEY_ESCAPE}},
	{"\033q", {KEY_ESCAPE, 'q'}},
	{"\033[5~\033[6~x", {KEY_PAGE_UP, KEY_PAGE_DOWN, 'x'}},
	{"\033[200~k", {KEY_NONE, 'k'}}, /* of a sequence that is not known nothing is a key */
	{"\033[<0;1;1Mk", {KEY_NONE, 'k'}},
	{"\r\t\177", {KEY_ENTER, KEY_TAB, KEY_BACKSPACE}},
	{"\303\266", {0xf6}},
	{"\001", {KEY_NONE}},
};

static void test_keys(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const char *at = keys[i].bytes, *end = at + strlen(at);

		for (size_t k = 0; at < end; k++)
			assert_int_equal(key_next(&at, end), keys[i].keys[k]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cleans),
		cmocka_unit_test(test_a_nul_shows),
		cmocka_unit_test(test_columns),
		cmocka_unit_test(test_keys),
	};

	return cmocka_run_group_tests(tests, have_utf8, NULL);
}
