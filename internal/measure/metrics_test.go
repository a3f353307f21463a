package measure_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
)

func TestNewRefusesWhatCannotBeRegistered(t *testing.T) {
	t.Parallel()
	_, err := measure.New(nil)
	require.ErrorContains(t, err, "registerer must not be nil")

	reg := prometheus.NewRegistry()
	foreign := func(name string) prometheus.Collector {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: measure.Prefix + name, Help: "Somebody else's."})
	}
	require.NoError(t, reg.Register(foreign("leader")))
	_, err = measure.New(reg)
	require.ErrorContains(t, err, "registering the metrics")
	require.NoError(t, reg.Register(foreign("workers")), "the failed attempt must have left nothing behind")
}

func TestTwoReplicaSetsShareARegistry(t *testing.T) {
	t.Parallel()
	reg, first := newRegistry(t)
	second, err := measure.New(reg)
	require.NoError(t, err)
	require.Same(t, first, second)

	first.ReplicaSet("a").Generation(3)
	second.ReplicaSet("b").Generation(7)
	requireSeries(t, reg, `generation{replica_set="a"}=3 generation{replica_set="b"}=7`, "generation")
}

func TestWrappedRegistererIsShared(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	wrapped := prometheus.WrapRegistererWith(prometheus.Labels{"application": "shop"}, reg)
	first, err := measure.New(wrapped)
	require.NoError(t, err)
	second, err := measure.New(wrapped)
	require.NoError(t, err)
	require.Same(t, first, second)

	other, err := measure.New(prometheus.WrapRegistererWith(prometheus.Labels{"application": "bank"}, reg))
	require.NoError(t, err)
	require.NotSame(t, first, other)
	first.ReplicaSet("a").Leader(true)
	other.ReplicaSet("a").Leader(false)
	requireSeries(t, reg,
		`leader{application="shop",replica_set="a"}=1 leader{application="bank",replica_set="a"}=0`, "leader")
}

func TestNewLeavesTheDefaultRegistryAlone(t *testing.T) {
	t.Parallel()
	_, m := newRegistry(t)
	recordEverything(m.ReplicaSet("a"))
	families, err := prometheus.DefaultGatherer.Gather()
	require.NoError(t, err)
	for _, family := range families {
		require.NotContains(t, family.GetName(), measure.Prefix)
	}
}

func TestEverythingIsGatheredUnderItsNameAndLintsClean(t *testing.T) {
	t.Parallel()
	reg, m := newRegistry(t)
	recordEverything(m.ReplicaSet("a"))

	families, err := reg.Gather()
	require.NoError(t, err)
	var names []string
	kinds := make(map[string]string)
	for _, family := range families {
		names = append(names, family.GetName())
		kinds[family.GetName()] = strings.ToLower(family.GetType().String())
	}
	require.ElementsMatch(t, measure.Names(), names)
	require.Equal(t, measure.Kinds(), kinds)

	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestForgetDeletesOnlyItsReplicaSet(t *testing.T) {
	t.Parallel()
	reg, m := newRegistry(t)
	a, b := m.ReplicaSet("a"), m.ReplicaSet("b")
	recordEverything(a)
	recordEverything(b)
	require.Equal(t, labelled(t, reg, "a"), labelled(t, reg, "b"))
	before := labelled(t, reg, "b")

	a.Forget()
	require.Zero(t, labelled(t, reg, "a"))
	require.Equal(t, before, labelled(t, reg, "b"))

	recordEverything(a)
	a.EventsHandled("seen for the first time", 1)
	require.Zero(t, labelled(t, reg, "a"), "what a forgotten recorder records must be dropped")
}

func TestForgottenReplicaSetBeginsAnew(t *testing.T) {
	t.Parallel()
	reg, m := newRegistry(t)
	old := m.ReplicaSet("a")
	old.EventsHandled("users", 5)
	old.Forget()

	young := m.ReplicaSet("a")
	young.EventsHandled("users", 2)
	young.Position("users", "0/1", 9)
	old.Forget()
	old.EventsHandled("users", 100)
	old.ForgetPartition("users", "0/1")
	old.UnregisterMailbox("none")
	young.Position("users", "0/1", 10)
	requireSeries(t, reg, `
		events_handled_total{projection="users",replica_set="a"}=2
		position{partition="0/1",projection="users",replica_set="a"}=10`,
		"events_handled_total", "position")
}

func TestTwoWorkersOfOneReplicaSetShareItsSeries(t *testing.T) {
	t.Parallel()
	reg, m := newRegistry(t)
	first, second := m.ReplicaSet("a"), m.ReplicaSet("a")
	first.EventsHandled("users", 1)
	second.EventsHandled("users", 2)
	first.RegisterMailbox("processor", "p0.g1.1", func() int { return 3 })
	second.RegisterMailbox("processor", "p0.g1.1", func() int { return 4 })
	names := []string{"events_handled_total", "actors", "actor_mailbox_length"}
	requireSeries(t, reg, `
		events_handled_total{projection="users",replica_set="a"}=3
		actors{actor="processor",replica_set="a"}=2
		actor_mailbox_length{actor="processor",replica_set="a"}=7`, names...)

	first.Forget()
	first.Forget()
	second.EventsHandled("users", 1)
	requireSeries(t, reg, `
		events_handled_total{projection="users",replica_set="a"}=4
		actors{actor="processor",replica_set="a"}=1
		actor_mailbox_length{actor="processor",replica_set="a"}=4`, names...)

	second.Forget()
	require.Zero(t, labelled(t, reg, "a"))
}

func TestNilRecordsNothing(t *testing.T) {
	t.Parallel()
	var m *measure.Metrics
	r := m.ReplicaSet("a")
	require.Nil(t, r)
	require.NotPanics(t, func() {
		recordEverything(r)
		r.ForgetPartition("users", "0/1")
		r.UnregisterMailbox("p0.g1.1")
		r.Forget()
	})
}
