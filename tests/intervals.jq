# Do the intervals (of one --interval file, slurped) add up to the result ($r)? Gives what differs: [] when nothing does.
# Also: each interval begins where the one before ended, the window's where the warm-up ends, and the last ends with the window.
($r[0]) as $r
| [.[] | select(.phase == "window")] as $w
| def sum(f): [$w[] | f] | add;
def near(a; b): ((a - b) | fabs) < 1e-6;
[
	(["cpu", "storage"][] as $t | ["read", "write"][] as $d
	 | [$t + "_" + $d + "_bytes", sum(.counters[$t + "_" + $d + "_bytes"]), $r.measured[$t][$d + "_bytes"]],
	   [$t + "_" + $d + "_ops", sum(.counters[$t + "_" + $d + "_ops"]), $r.measured[$t][$d + "_ops"]]),
	["requests", sum(.counters.requests_completed), $r.measured.requests.completed],
	["tokens", sum(.counters.tokens_generated), $r.summary.total_tokens],
	["hits", sum(.counters.cache_hits), $r.summary.cache_stats.cache_hits],
	["misses", sum(.counters.cache_misses), $r.summary.cache_stats.cache_misses],
	["evictions", sum(.counters.evictions), $r.measured.evict.entries],
	["demoted", sum(.counters.demoted_bytes), $r.measured.evict.demoted_bytes],
	["errors", ([.[] | .errors] | add), $r.errors.total],
	($r.histograms.series | keys[]) as $h
	| ["samples of " + $h, (sum(.latency_ms[$h].count // 0)), $r.histograms.series[$h].count]
]
| map(select(.[1] != .[2]))
+ [range(1; $w | length) as $i | select(near($w[$i].begin_s; $w[$i - 1].end_s) | not) | ["gap before", $w[$i].interval]]
+ (if near($w[0].begin_s; $r.run.warmup_s) then [] else [["begin", $w[0].begin_s]] end)
+ (if near($w[-1].end_s - $w[0].begin_s; $r.measured.window_s) then [] else [["end", $w[-1].end_s]] end)
