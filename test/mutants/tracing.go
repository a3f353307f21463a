package main

// tracingGuards keep traces small, and events as their callers gave them.
var tracingGuards = []guard{
	{
		Name: "metadata-that-is-no-object-stays", File: "internal/tracing/context.go",
		Old: "	if len(metadata) > 0 && !ok {\n", New: "	if len(metadata) > 0 && !ok && rest == nil {\n",
		Test: "TestInject", Promise: "metadata that is no JSON object is stored as it is",
	},
	{
		Name: "own-trace-contexts-stay", File: "internal/tracing/context.go",
		Old: "err != nil || members[parentKey] != nil {", New: "err != nil {",
		Test: "TestInject", Promise: "a trace context that the application has set stays",
	},
	{
		Name: "links-are-bounded", File: "internal/tracing/batch.go",
		Old: "		if len(links) == MostLinks {\n", New: "		if len(links) > 100*MostLinks {\n",
		Test: "TestLinksAreFew", Package: "test/face", Promise: "a span links to 64 appends at most",
	},
	{
		Name: "only-sampled-appends-are-linked", File: "internal/tracing/batch.go",
		Old: "!of.IsValid() || !of.IsSampled() {", New: "!of.IsValid() {",
		Test: "TestLinksAreFew", Package: "test/face", Promise: "a span links to what was sampled",
	},
	{
		Name: "rolled-back-batches-are-errors", File: "actors/batch.go",
		Old: "			end.err = call.err\n", New: "",
		Test: "TestAFailedBatchIsAnErrorOfItsSpan", Package: "test/face", Promise: "a batch that was rolled back shows in its trace",
	},
}
