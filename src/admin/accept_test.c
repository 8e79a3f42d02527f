/* Accept headers: of clients that there are, odd ones, broken ones. */
#include "admin/accept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { TEXT, OPEN, JSON, PROTOBUF };

static const struct accept_offer offers[] = {
	[TEXT] = {"text", "plain", {{"version", "0.0.4"}}},
	[OPEN] = {"application", "openmetrics-text", {{"version", "1.0.0 0.0.1"}}},
	[JSON] = {"application", "json"},
	[PROTOBUF] = {"application", "vnd.google.protobuf", {{"proto", "a.B"}, {"encoding", "delimited"}}},
};

#define PROTO "application/vnd.google.protobuf"

static void test_chooses(void **state)
{
	static const struct {
		const char *header;
		size_t chosen;
	} cases[] = {
		{NULL, TEXT},
		{"", TEXT},
		{"*/*", TEXT},
		{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", TEXT}, /* a browser */
		{"application/json, text/plain, */*", JSON},                               /* axios */
		{"application/json", JSON},
		{"Application/JSON;charset=utf-8", JSON},
		/* Prometheus 2.42: as it is started, with native histograms; 3 */
		{"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
		 "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
		 OPEN},
		{PROTO ";proto=a.B;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,"
		       "application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
		 PROTOBUF},
		{PROTO ";proto=a.B;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;"
		       "escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
		       "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
		 PROTOBUF},
		/* q */
		{"text/plain;q=0.5, application/json;q=0.501", JSON},
		{"text/plain;q=0.5, application/json;q=0.499", TEXT},
		{"application/json;q=0.3, " PROTO ";q=0.9", PROTOBUF},
		{"application/json;q=1.000, text/plain;q=0.999", JSON},
		{"application/json; Q=0.1 , text/plain ;q=0.2", TEXT},
		{"application/json;q=0, */*;q=0.1", TEXT},
		{"text/plain;q=0, application/openmetrics-text;q=0, application/json;q=0, */*", PROTOBUF},
		{"text/plain;q=0, */*;q=0.5", OPEN},
		{"application/json;q=0", TEXT},
		{"application/json;q=2, text/plain;q=0.1", TEXT},
		{"application/json;q=1.5, text/plain;q=0.1", TEXT},
		{"application/json;q=x, text/plain;q=0.1", TEXT},
		{"application/json;q=-1, text/plain;q=0.1", TEXT},
		{"application/json;q=0.1234, text/plain;q=0.1", TEXT}, /* no q has four digits */
		{"application/json;q, text/plain;q=0.1", TEXT},
		/* the more exact one says it, wherever it stands; what is named goes before what a * stands for */
		{"*/*;q=0.9, text/*;q=0.1", OPEN},
		{"text/plain, text/*;q=0.1, application/json;q=0.5", TEXT},
		{"*/*, application/json", JSON},
		{"text/*, application/json", JSON},
		{"application/json, application/openmetrics-text", JSON},
		{"application/openmetrics-text, application/json", OPEN},
		{"application/json, text/plain;version=0.0.4", JSON},
		/* parameters: what is named must be ours */
		{PROTO, PROTOBUF},
		{PROTO ";proto=a.B;encoding=text, application/json;q=0.1", JSON},
		{PROTO ";proto=c.D;encoding=delimited", TEXT},
		{PROTO ";proto=a.Bc", TEXT},
		{PROTO ";proto=\"a.B\"; encoding=\"delimited\"", PROTOBUF},
		{PROTO ";proto=\"a.B,;=\", application/json;q=0.1", JSON},
		{"application/openmetrics-text;version=0.0.1", OPEN},
		{"application/openmetrics-text;version=2.0.0", TEXT},
		{"application/openmetrics-text;version=\"1.0.0 0.0.1\"", TEXT},
		/* broken */
		{",,, ,application/json,,", JSON},
		{"application, application/json", JSON},
		{"application/", TEXT},
		{"/json", TEXT},
		{"application/json/x", TEXT},
		{"application/json;", JSON},
		{"application/json;;q=0", TEXT},
		{"application/json \"x, text/plain;q=0.1", TEXT},
		{"application/json;a=\"\\", JSON},
		{"application/jsonx", TEXT},
		{"*/json", TEXT},
		{"text/plain;q=\"0.1\", application/json;q=0.2", JSON},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t chosen = accept_choose(cases[i].header, offers, ARRAY_SIZE(offers));

		if (chosen != cases[i].chosen)
			fail_msg("%zu for %s", chosen, cases[i].header);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_chooses)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
