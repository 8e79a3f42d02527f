/* See facts.h. */
#include "cluster/facts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * The timeline: right after a promotion pg_control still has the old one, so that a node that is read-write is asked
 * for the name of the file it writes to. A standby says what it receives (to those of pg_monitor only), or what it last
 * checkpointed. A CASE is not folded here: the functions are volatile.
 */
const char facts_query[] =
	"SELECT current_setting('server_version_num'), r::int, current_setting('default_transaction_read_only'), "
	"CASE WHEN r THEN pg_is_wal_replay_paused()::int ELSE 0 END, "
	"(SELECT system_identifier FROM pg_control_system()), "
	"CASE WHEN r THEN to_hex(greatest((SELECT timeline_id FROM pg_control_checkpoint()), w.received_tli)) "
	"ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END, "
	"CASE WHEN NOT r THEN pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') END, "
	"CASE WHEN r THEN pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0') END, "
	"CASE WHEN r THEN pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0') END, "
	"CASE WHEN r THEN (extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000000)::bigint "
	"END, "
	"(extract(epoch FROM clock_timestamp()) * 1000000)::bigint, "
	"(w.pid IS NOT NULL)::int, w.sender_host, w.sender_port, "
	"coalesce(trim('''' FROM substring(w.conninfo FROM '(?:^|\\s)application_name=(\\S+)')), "
	"nullif(current_setting('cluster_name'), ''), 'walreceiver'), "
	"current_setting('wal_block_size'), pg_size_bytes(current_setting('wal_segment_size')), 'helios' "
	"FROM (SELECT pg_is_in_recovery() AS r) AS s LEFT JOIN pg_stat_wal_receiver AS w ON true; "
	"SELECT application_name, state, sync_state, host(client_addr) FROM pg_stat_replication "
	"ORDER BY (state IN ('streaming', 'catchup')) DESC NULLS LAST, pid LIMIT 32";

/*
 * For lag what is flushed counts: a standby is sent no more than that, and what a reader leaves in the log (pruning of
 * a page) may wait for its flush until somebody commits.
 */
const char position_query[] = "SELECT r::int, CASE WHEN r THEN pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0') "
			      "ELSE pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') END, "
			      "CASE WHEN NOT r THEN pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0') END, 'helios' "
			      "FROM (SELECT pg_is_in_recovery() AS r) AS s";

/* ---- one column ---- */

static bool take_number(const char *text, int base, uint64_t *ret)
{
	char *end;

	if (!text || *text < '0' || (*text > '9' && base == 10))
		return false;
	errno = 0;
	*ret = strtoull(text, &end, base);
	return errno == 0 && *end == 0;
}

/* 0 for an SQL null. */
static bool take_lsn(const char *text, uint64_t *ret)
{
	*ret = 0;
	return !text || take_number(text, 10, ret);
}

/* May be negative; -1 for an SQL null. */
static bool take_signed(const char *text, int64_t *ret)
{
	char *end;

	*ret = -1;
	if (!text)
		return true;
	errno = 0;
	*ret = strtoll(text, &end, 10);
	return errno == 0 && end != text && *end == 0;
}

static void take_text(const char *text, char *to, size_t size)
{
	snprintf(to, size, "%s", text ? text : "");
}

/* ---- rows ---- */

enum column {
	COLUMN_VERSION,
	COLUMN_IN_RECOVERY,
	COLUMN_READ_ONLY,
	COLUMN_PAUSED,
	COLUMN_SYSTEM_ID,
	COLUMN_TIMELINE,
	COLUMN_CURRENT,
	COLUMN_RECEIVE,
	COLUMN_REPLAY,
	COLUMN_REPLAY_AGE,
	COLUMN_CLOCK,
	COLUMN_RECEIVING,
	COLUMN_UPSTREAM_HOST,
	COLUMN_UPSTREAM_PORT,
	COLUMN_APPLICATION_NAME,
	COLUMN_WAL_BLOCK,
	COLUMN_WAL_SEGMENT,
	COLUMN_MARK,
};

int facts_take_node(struct node_facts *facts, const char *const *c, uint32_t count, uint64_t wall, usec_t round_trip)
{
	struct node_facts f = *facts;
	uint64_t version, in_recovery, paused, timeline = 0, clock, receiving, port = 0, block, segment;

	if (count != FACTS_NODE_COLUMNS || !c[COLUMN_MARK] || strcmp(c[COLUMN_MARK], "helios") != 0)
		return -EPROTO;
	if (!take_number(c[COLUMN_VERSION], 10, &version) || !take_number(c[COLUMN_IN_RECOVERY], 10, &in_recovery) ||
	    !take_number(c[COLUMN_PAUSED], 10, &paused) || !take_number(c[COLUMN_SYSTEM_ID], 10, &f.system_id) ||
	    !take_number(c[COLUMN_CLOCK], 10, &clock) || !take_number(c[COLUMN_RECEIVING], 10, &receiving) ||
	    !take_number(c[COLUMN_WAL_BLOCK], 10, &block) || !take_number(c[COLUMN_WAL_SEGMENT], 10, &segment))
		return -EPROTO;
	if ((c[COLUMN_TIMELINE] && !take_number(c[COLUMN_TIMELINE], 16, &timeline)) ||
	    (c[COLUMN_UPSTREAM_PORT] && !take_number(c[COLUMN_UPSTREAM_PORT], 10, &port)) ||
	    !take_lsn(c[COLUMN_CURRENT], &f.current_lsn) || !take_lsn(c[COLUMN_RECEIVE], &f.receive_lsn) ||
	    !take_lsn(c[COLUMN_REPLAY], &f.replay_lsn) || !take_signed(c[COLUMN_REPLAY_AGE], &f.replay_age_us))
		return -EPROTO;
	f.known = f.tells_log = true;
	f.version = (uint32_t)version;
	f.in_recovery = in_recovery != 0;
	f.read_only = c[COLUMN_READ_ONLY] && strcmp(c[COLUMN_READ_ONLY], "on") == 0;
	f.replay_paused = paused != 0;
	f.timeline = (uint32_t)timeline;
	f.wal_block = (uint32_t)block;
	f.wal_segment = (uint32_t)segment;
	/* it looked at its clock somewhere between our question and its answer: in the middle, for all we know */
	f.clock_skew_us = (int64_t)clock - (int64_t)(wall - round_trip / 2);
	f.receiving = receiving != 0;
	take_text(c[COLUMN_UPSTREAM_HOST], f.upstream_host, sizeof(f.upstream_host));
	f.upstream_port = (uint16_t)port;
	take_text(c[COLUMN_APPLICATION_NAME], f.application_name, sizeof(f.application_name));
	f.sender_count = 0;
	*facts = f;
	return 0;
}

int facts_take_sender(struct node_facts *facts, const char *const *columns, uint32_t count)
{
	struct facts_sender *s;

	if (count != FACTS_SENDER_COLUMNS)
		return -EPROTO;
	if (facts->sender_count == FACTS_SENDERS_MAX)
		return 0;
	s = &facts->senders[facts->sender_count++];
	take_text(columns[0], s->name, sizeof(s->name));
	take_text(columns[1], s->state, sizeof(s->state));
	take_text(columns[2], s->sync_state, sizeof(s->sync_state));
	take_text(columns[3], s->address, sizeof(s->address));
	return 0;
}

int facts_take_position(struct facts_position *position, const char *const *columns, uint32_t count)
{
	struct facts_position found;
	uint64_t in_recovery;

	if (count != FACTS_POSITION_COLUMNS || !columns[3] || strcmp(columns[3], "helios") != 0 ||
	    !take_number(columns[0], 10, &in_recovery) || !take_lsn(columns[1], &found.lsn) ||
	    !take_lsn(columns[2], &found.flushed))
		return -EPROTO;
	found.in_recovery = in_recovery != 0;
	*position = found;
	return 0;
}

int facts_take_beat(uint64_t *beat, const char *const *columns, uint32_t count)
{
	uint64_t found;

	if (count != 1 || !take_number(columns[0], 10, &found))
		return -EPROTO;
	*beat = found;
	return 0;
}
