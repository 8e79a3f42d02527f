/* The two forms of user files, line by line. */
#include "config/userlist.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define SCRAM \
	"SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$" \
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

struct fixture {
	struct arena arena;
	struct config_report report;
	struct userlist *list;
};

static void begin(struct fixture *f)
{
	arena_init(&f->arena, 1024);
	config_report_init(&f->report, false);
	f->list = userlist_new(&f->arena);
	assert_non_null(f->list);
}

static void end(struct fixture *f)
{
	config_report_free(&f->report);
	arena_destroy(&f->arena);
}

static void lines_of_both_forms_are_read(void **state)
{
	static const struct {
		const char *line, *user;
		enum secret_kind kind;
		const char *text;
	} cases[] = {
		{"app:secret", "app", SECRET_PLAIN, "secret"},
		{"  app : secret  ", "app", SECRET_PLAIN, "secret"},
		{"app:se:cr:et", "app", SECRET_PLAIN, "se:cr:et"},
		{"\"app\":\"se cret\"", "app", SECRET_PLAIN, "se cret"},
		{"'app':'secret'", "app", SECRET_PLAIN, "secret"},
		{"\"a:b\":secret", "a:b", SECRET_PLAIN, "secret"},
		{"app:" SCRAM, "app", SECRET_SCRAM, NULL},
		{"app:\"" SCRAM "\"", "app", SECRET_SCRAM, NULL},
		{"\"app\" \"secret\"", "app", SECRET_PLAIN, "secret"},
		{"\"app\"\t \"secret\" \"\" ignored", "app", SECRET_PLAIN, "secret"},
		{"\"a\"\"b\" \"x\"\"y\"", "a\"b", SECRET_PLAIN, "x\"y"},
		{"\"app\" \"" SCRAM "\"", "app", SECRET_SCRAM, NULL},
		{"\"app\" \"md5aabbccddeeff00112233445566778899\"", "app", SECRET_MD5,
		 "md5aabbccddeeff00112233445566778899"},
		{"app:secret\r", "app", SECRET_PLAIN, "secret"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct secret *secret;
		struct fixture f;

		begin(&f);
		assert_int_equal(userlist_load_text(f.list, cases[i].line, strlen(cases[i].line), "t", &f.report), 0);
		secret = userlist_get(f.list, cases[i].user);
		assert_non_null(secret);
		assert_int_equal(secret->kind, cases[i].kind);
		if (cases[i].text)
			assert_string_equal(secret->text, cases[i].text);
		assert_int_equal(f.report.errors + f.report.warnings, 0);
		end(&f);
	}
}

static void comments_and_blank_lines_are_skipped(void **state)
{
	static const char text[] = "# a comment\n; another\n\n   \na:1\n  # c\n\"b\" \"2\"\n";
	struct fixture f;

	begin(&f);
	assert_int_equal(userlist_load_text(f.list, text, sizeof(text) - 1, "t", &f.report), 0);
	assert_int_equal(userlist_count(f.list), 2);
	assert_true(userlist_has_plain(f.list));
	assert_null(userlist_get(f.list, "# a comment"));
	end(&f);
}

static void mistakes_are_all_reported(void **state)
{
	static const char text[] = "nothing\n:x\na:1\na:2\n\"open\nb:SCRAM-SHA-256$broken\n";
	struct fixture f;

	begin(&f);
	assert_int_equal(userlist_load_text(f.list, text, sizeof(text) - 1, "t", &f.report), -EINVAL);
	assert_true(f.report.errors >= 3);
	assert_int_equal(f.report.warnings, 1);
	assert_string_equal(userlist_get(f.list, "a")->text, "2");
	assert_int_equal(userlist_load_text(f.list, "a\0b", 3, "t", &f.report), -EINVAL);
	end(&f);
}

static void a_file_that_all_can_read_is_warned_of(void **state)
{
	char path[] = "/tmp/userlist_test.XXXXXX";
	struct fixture f;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "a:1\n", 4), 4);
	begin(&f);
	assert_int_equal(fchmod(fd, 0600), 0);
	assert_int_equal(userlist_load(f.list, path, &f.report), 0);
	assert_int_equal(f.report.warnings, 0);
	assert_int_equal(fchmod(fd, 0644), 0);
	assert_int_equal(userlist_load(f.list, path, &f.report), 0);
	assert_int_equal(f.report.warnings, 2); /* and that a was there before */
	unlink(path);
	close(fd);
	assert_int_equal(userlist_load(f.list, path, &f.report), -EINVAL);
	assert_int_equal(userlist_load(f.list, "/dev/null", &f.report), -EINVAL);
	assert_int_equal(f.report.errors, 2);
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_of_both_forms_are_read),
		cmocka_unit_test(comments_and_blank_lines_are_skipped),
		cmocka_unit_test(mistakes_are_all_reported),
		cmocka_unit_test(a_file_that_all_can_read_is_warned_of),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
