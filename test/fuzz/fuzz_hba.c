/* Files about users: pg_hba.conf, pg_ident.conf, user lists, all from the same bytes. */
#include "config/hba.h"
#include "config/ident.h"
#include "config/userlist.h"

#include <netinet/in.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(const struct hba *hba)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a010203)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct hba_query query = {.database = "shop", .user = "app_x"};

	assert(hba_match(hba, &query));
	query.address = (const struct sockaddr *)&v4;
	query.tls = true;
	assert(hba_match(hba, &query));
	query.address = (const struct sockaddr *)&v6;
	query.replication = true;
	assert(hba_match(hba, &query));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	const struct ident *ident;
	const struct hba *hba;
	struct userlist *list;
	struct config_report report;
	struct arena arena;

	arena_init(&arena, 4096);
	config_report_init(&report, false);
	if (hba_load_text(text, size, "fuzz", /* may_include= */ false, &arena, &report, &hba) == 0)
		ask(hba);
	if (ident_load_text(text, size, "fuzz", /* may_include= */ false, &arena, &report, &ident) == 0)
		ident_allows(ident, "r", "joe@example.com", "joe");
	list = userlist_new(&arena);
	if (list && userlist_load_text(list, text, size, "fuzz", &report) == 0)
		userlist_get(list, "app");
	config_report_free(&report);
	arena_destroy(&arena);
	return 0;
}
