package actors

import (
	"fmt"
	"reflect"
	"runtime/debug"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
)

// crash is what a panic in an actor becomes: the library drops the stack.
type crash struct {
	Value   any
	Message string
	Stack   []byte
}

// Error says what the actor was doing.
func (c *crash) Error() string { return fmt.Sprintf("panic in %s: %v", c.Message, c.Value) }

// guard is every actor's outermost receiver middleware: it measures, counts
// panics and gives them a stack. A panic in an actor that is ending is counted
// and swallowed, since it would hang the parent's stop for ever.
func guard(kind, name string, m *measure.ReplicaSet) actor.ReceiverMiddleware {
	return func(next actor.ReceiverFunc) actor.ReceiverFunc {
		return func(c actor.ReceiverContext, env *actor.MessageEnvelope) {
			ending := false
			switch env.Message.(type) {
			case *actor.Started:
				m.ActorStarted(kind)
			case *actor.Stopping, *actor.Restarting, *actor.Terminated:
				ending = true
			case *actor.Stopped:
				ending = true
				m.UnregisterMailbox(name)
			}
			began := time.Now()
			defer func() {
				if !isLifecycle(env.Message) {
					m.ActorMessage(kind, messageName(env.Message), time.Since(began))
				}
				if value := recover(); value != nil {
					m.ActorPanicked(kind)
					if !ending {
						panic(&crash{Value: value, Message: messageName(env.Message), Stack: debug.Stack()})
					}
				}
			}()
			next(c, env)
		}
	}
}

// properties is the actor's props: its guard and its measured mailbox. name is
// never used twice.
func properties(kind, name string, m *measure.ReplicaSet, produce actor.Producer, options ...actor.PropsOption) *actor.Props {
	options = append([]actor.PropsOption{
		actor.WithReceiverMiddleware(guard(kind, name, m)),
		actor.WithMailbox(func() actor.Mailbox {
			mailbox := actor.Unbounded()()
			m.RegisterMailbox(kind, name, func() int { return max(0, mailbox.UserMessageCount()) })
			return mailbox
		}),
	}, options...)
	return actor.PropsFromProducer(produce, options...)
}

// isLifecycle says whether a message is the actor library's own. Starts are counted apart, so these have no series.
func isLifecycle(message any) bool {
	switch message.(type) {
	case *actor.Started, *actor.Stopping, *actor.Stopped, *actor.Terminated, *actor.Restarting:
		return true
	}
	return false
}

// messageName is a message's type without its package, as a metric's label too. The set of types is closed.
func messageName(message any) string {
	name := reflect.TypeOf(message).String()
	return name[strings.LastIndexByte(name, '.')+1:]
}
