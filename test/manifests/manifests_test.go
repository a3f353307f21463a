package manifests

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	example = "../../examples/kubernetes"
	scalers = "../../deploy/keda"
	// patience bounds every wait.
	patience = 30 * time.Second
)

// decode reads a manifest strictly: a field that the type does not have is an error.
func decode[T any](t *testing.T, name string) (object T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(example, name))
	require.NoError(t, err)
	require.NoError(t, yaml.UnmarshalStrict(text, &object), name)
	return object
}

// The kinds and fields exist, and the manifests fit together.
func TestManifestsAreWhatKubernetesKnows(t *testing.T) {
	deployment := decode[appsv1.Deployment](t, "deployment.yaml")
	job := decode[batchv1.Job](t, "migrate.yaml")
	budget := decode[policyv1.PodDisruptionBudget](t, "disruptions.yaml")
	autoscaler := decode[autoscalingv2.HorizontalPodAutoscaler](t, "autoscaler.yaml")
	found, err := filepath.Glob(filepath.Join(example, "*.yaml"))
	require.NoError(t, err)
	require.Len(t, found, 4, "each manifest is decoded here")

	pod := deployment.Spec.Template
	assert.Equal(t, deployment.Spec.Selector.MatchLabels, pod.Labels)
	assert.Equal(t, pod.Labels, budget.Spec.Selector.MatchLabels)
	assert.Equal(t, policyv1.AlwaysAllow, *budget.Spec.UnhealthyPodEvictionPolicy)
	assert.Equal(t, 1, budget.Spec.MaxUnavailable.IntValue())
	assert.Equal(t, deployment.Name, autoscaler.Spec.ScaleTargetRef.Name)
	assert.Equal(t, deployment.Kind, autoscaler.Spec.ScaleTargetRef.Kind)
	assert.Equal(t, deployment.APIVersion, autoscaler.Spec.ScaleTargetRef.APIVersion)
	assert.Equal(t, pod.Annotations["prometheus.io/port"], strconv.Itoa(int(pod.Spec.Containers[0].Ports[0].ContainerPort)))
	for _, spec := range []corev1.PodSpec{pod.Spec, job.Spec.Template.Spec} {
		require.Len(t, spec.Containers, 1)
		assert.True(t, *spec.SecurityContext.RunAsNonRoot)
		assert.True(t, *spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem)
		assert.Equal(t, "worker:dev", spec.Containers[0].Image)
	}
}

// The program that the manifests run answers their probes, and ends within the time that they give it.
func TestProbesAreAnswered(t *testing.T) {
	deployment := decode[appsv1.Deployment](t, "deployment.yaml")
	pod := deployment.Spec.Template.Spec
	container := pod.Containers[0]
	binary := build(t)
	environment := append(os.Environ(), "LISTEN=127.0.0.1:0")
	for _, variable := range container.Env {
		environment = append(environment, variable.Name+"="+pgtest.NewDSN(t))
	}
	migrate := exec.CommandContext(t.Context(), binary, decode[batchv1.Job](t, "migrate.yaml").Spec.Template.Spec.Containers[0].Args...)
	migrate.Env = environment
	output, err := migrate.CombinedOutput()
	require.NoError(t, err, "%s", output)

	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*patience)
	t.Cleanup(cancel)
	worker := exec.CommandContext(ctx, binary, container.Args...)
	worker.Env = environment
	log, err := worker.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, worker.Start())
	address := addressIn(t, log)
	for name, probe := range map[string]*corev1.Probe{"startup": container.StartupProbe, "liveness": container.LivenessProbe, "readiness": container.ReadinessProbe} {
		assert.Equal(t, container.Ports[0].Name, probe.HTTPGet.Port.StrVal, name)
		answers(t, "http://"+address+probe.HTTPGet.Path)
	}
	answers(t, "http://"+address+"/metrics")

	began := time.Now()
	require.NoError(t, worker.Process.Signal(syscall.SIGTERM))
	require.NoError(t, worker.Wait())
	assert.Less(t, time.Since(began), time.Duration(*pod.TerminationGracePeriodSeconds)*time.Second)
}

// build makes the program that the Dockerfile makes. It is built with the race detector, as make test has built its packages already.
func build(t *testing.T) (binary string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(example, "Dockerfile"))
	require.NoError(t, err)
	steps := regexp.MustCompile(`(?m)^RUN CGO_ENABLED=0 go build -trimpath -ldflags=-s -o /(\S+) (\./\S+)$`).FindAllStringSubmatch(string(text), -1)
	require.Len(t, steps, 2, "the worker and the command line")
	assert.Contains(t, string(text), `ENTRYPOINT ["/`+steps[0][1]+`"]`)
	assert.Contains(t, string(text), `HEALTHCHECK CMD ["/`+steps[1][1]+`"`)
	directory := t.TempDir()
	for _, step := range steps {
		command := exec.CommandContext(t.Context(), "go", "build", "-race", "-o", filepath.Join(directory, step[1]), step[2])
		command.Dir = "../.."
		output, err := command.CombinedOutput()
		require.NoError(t, err, "%s: %s", step[0], output)
	}
	return filepath.Join(directory, steps[0][1])
}

// addressIn is where the program says that it listens.
func addressIn(t *testing.T, log io.Reader) string {
	t.Helper()
	found := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(log)
		for lines.Scan() {
			var line struct{ Address string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Address != "" {
				select {
				case found <- line.Address:
				default:
				}
			}
		}
	}()
	select {
	case address := <-found:
		return address
	case <-time.After(patience):
		require.FailNow(t, "the worker does not say where it listens")
		return ""
	}
}

// answers waits until a path answers 200.
func answers(t *testing.T, url string) {
	t.Helper()
	require.Eventually(t, func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false
		}
		defer func() { _ = response.Body.Close() }()
		return response.StatusCode == http.StatusOK
	}, patience, 20*time.Millisecond, url)
}

// The scalers are YAML that KEDA's types could be read from: KEDA's own are not a dependency that is worth its size, so only what every resource has is looked at.
func TestScalersAreResources(t *testing.T) {
	found, err := filepath.Glob(filepath.Join(scalers, "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, found)
	for _, name := range found {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		var object struct {
			APIVersion, Kind string
			Spec             struct {
				Advanced struct {
					HorizontalPodAutoscalerConfig struct {
						Behavior autoscalingv2.HorizontalPodAutoscalerBehavior
					}
				}
			}
		}
		require.NoError(t, yaml.Unmarshal(text, &object), name)
		assert.Equal(t, "keda.sh/v1alpha1 ScaledObject", strings.Join([]string{object.APIVersion, object.Kind}, " "))
		behavior := object.Spec.Advanced.HorizontalPodAutoscalerConfig.Behavior
		require.NotNil(t, behavior.ScaleDown, name)
		assert.GreaterOrEqual(t, *behavior.ScaleDown.StabilizationWindowSeconds, int32(600), "it scales down slowly")
	}
}
