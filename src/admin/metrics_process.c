/* Metrics of the process. Names that begin with process_ are those of Prometheus' own clients. */
#include "admin/admin_priv.h"

#include "admin/metrics.h"
#include "base/log.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

static double open_fds(void)
{
	DIR *folder = opendir("/proc/self/fd");
	double count = -3; /* ".", "..", and the folder itself */

	if (!folder)
		return 0;
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

static double resident_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long size, resident = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%lu %lu", &size, &resident) != 2)
		resident = 0;
	fclose(file);
	return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static double cpu_seconds(void)
{
	struct rusage usage = {0};

	(void)getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static uint64_t max_clients(struct admin *admin)
{
	uint64_t max;

	pthread_mutex_lock(&admin->lock);
	max = admin->context.config->proxy.max_clients;
	pthread_mutex_unlock(&admin->lock);
	return max;
}

#define PROCESS_METRICS(X) \
	X("heliosdb_proxy_ready", "gauge", "1 when the readiness check succeeds.", admin_is_ready(admin, &unused)) \
	X("heliosdb_proxy_suspended", "gauge", "1 from SUSPEND on the console, or over the API, until RESUME.", \
	  suspension_is_on(&admin->context.sessions->suspension)) \
	X("heliosdb_proxy_clients_max", "gauge", "Client connections that there may be ([proxy] max_clients).", \
	  max_clients(admin)) \
	X("heliosdb_proxy_log_lines_dropped_total", "counter", "Log lines lost: nothing took them in time.", \
	  log_dropped()) \
	X("process_start_time_seconds", "gauge", "Start of the process, in seconds since 1970.", \
	  (double)(admin->context.started_wall / 1000) / 1e3) \
	X("process_cpu_seconds_total", "counter", "User and system CPU time.", cpu_seconds()) \
	X("process_resident_memory_bytes", "gauge", "Memory in use.", resident_bytes()) \
	X("process_open_fds", "gauge", "Open file descriptors.", open_fds()) \
	X("process_max_fds", "gauge", "File descriptors that may be open.", limit.rlim_cur)

static const struct metric process_metrics[] = {
#define X(name, kind, help, value) {name, kind, help},
	PROCESS_METRICS(X)
#undef X
};

static bool expose_process(struct exposition *e, struct admin *admin, const struct metric *m)
{
	struct rlimit limit = {0};
	const char *unused;

	(void)getrlimit(RLIMIT_NOFILE, &limit);
#define X(name, kind, help, value) exposition_single(e, m++, (double)(value));
	PROCESS_METRICS(X)
#undef X
	return true;
}

const struct metric_group metrics_process = {"", "The process.", process_metrics, ARRAY_SIZE(process_metrics),
					     expose_process};

static const struct metric build_metrics[] = {
	{"heliosdb_proxy_build_info", "gauge", "Always 1; the label says what runs."}};

static bool expose_build(struct exposition *e, struct admin *admin, const struct metric *m)
{
	(void)admin;
	exposition_begin(e, m);
	exposition_add_one(e, "version", HELIOS_VERSION, 1);
	return true;
}

const struct metric_group metrics_build = {"version", "What runs.", build_metrics, ARRAY_SIZE(build_metrics),
					   expose_build};
