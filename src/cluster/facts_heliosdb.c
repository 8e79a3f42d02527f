/* See facts_heliosdb.h. */
#include "cluster/facts_heliosdb.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

const char facts_heliosdb_query[] =
	"SELECT current_setting('server_version_num'), role, is_read_only, node_id, primary_host "
	"FROM pg_replication_status; "
	"SELECT node_id, sync_mode, address FROM pg_replication_standbys";

enum column { COLUMN_VERSION, COLUMN_ROLE, COLUMN_READ_ONLY, COLUMN_NODE_ID, COLUMN_PRIMARY_HOST };

/* Is it read-write or a standby? An observer votes, and holds no data: a read there would find nothing, without any
 * error. */
static int take_role(const char *role, bool *ret_in_recovery)
{
	static const struct {
		const char *word;
		bool in_recovery;
	} roles[] = {{"standalone", false}, {"primary", false}, {"standby", true}};

	for (size_t i = 0; i < ARRAY_SIZE(roles); i++) {
		if (strcmp(roles[i].word, role) != 0)
			continue;
		*ret_in_recovery = roles[i].in_recovery;
		return 0;
	}
	return -ENOTSUP;
}

static bool take_bool(const char *text, bool *ret)
{
	*ret = text && *text == 't';
	return text && (strcmp(text, "t") == 0 || strcmp(text, "f") == 0);
}

static bool take_version(const char *text, uint32_t *ret)
{
	char *end;
	unsigned long version;

	if (!text || *text < '0' || *text > '9')
		return false;
	errno = 0;
	version = strtoul(text, &end, 10);
	*ret = (uint32_t)version;
	return errno == 0 && *end == 0 && version <= UINT32_MAX;
}

/* From "host:port", whose port is that of replication: none that queries could go to. */
static void take_host(const char *address, char *to, size_t size)
{
	const char *colon = address ? strrchr(address, ':') : NULL;

	snprintf(to, size, "%.*s", colon ? (int)(colon - address) : 0, address ? address : "");
}

int facts_take_heliosdb(struct node_facts *facts, const char *const *c, uint32_t count)
{
	struct node_facts f = *facts;
	bool read_only;
	int r;

	if (count != FACTS_HELIOSDB_COLUMNS || !c[COLUMN_ROLE] || !c[COLUMN_NODE_ID] || !*c[COLUMN_NODE_ID] ||
	    !take_version(c[COLUMN_VERSION], &f.version) || !take_bool(c[COLUMN_READ_ONLY], &read_only))
		return -EPROTO;
	r = take_role(c[COLUMN_ROLE], &f.in_recovery);
	if (r < 0)
		return r;
	f.known = true;
	f.system_id = FACTS_HELIOSDB_SYSTEM;
	f.read_only = read_only && !f.in_recovery;
	f.tells_log = f.replay_paused = f.receiving = false;
	f.timeline = f.wal_block = f.wal_segment = 0;
	f.current_lsn = f.receive_lsn = f.replay_lsn = 0;
	f.replay_age_us = -1;
	f.clock_skew_us = 0;
	take_host(c[COLUMN_PRIMARY_HOST], f.upstream_host, sizeof(f.upstream_host));
	f.upstream_port = 0;
	snprintf(f.application_name, sizeof(f.application_name), "%s", c[COLUMN_NODE_ID]);
	f.sender_count = 0;
	*facts = f;
	return 0;
}

/* It is listed as long as its connection is there. */
int facts_take_heliosdb_sender(struct node_facts *facts, const char *const *columns, uint32_t count)
{
	struct facts_sender *s;

	if (count != FACTS_HELIOSDB_SENDER_COLUMNS || !columns[0])
		return -EPROTO;
	if (facts->sender_count == FACTS_SENDERS_MAX)
		return 0;
	s = &facts->senders[facts->sender_count++];
	*s = (struct facts_sender){.state = "streaming"};
	snprintf(s->name, sizeof(s->name), "%s", columns[0]);
	snprintf(s->sync_state, sizeof(s->sync_state), "%s", columns[1] ? columns[1] : "");
	take_host(columns[2], s->address, sizeof(s->address));
	return 0;
}
