package projection

import "time"

// SetGrace changes how long a handler may go on after its context has ended.
func (p *PostgresProcessor) SetGrace(grace time.Duration) { p.grace = grace }

// SetIdle changes how long a handler may leave its transaction idle, at first.
func (p *PostgresProcessor) SetIdle(idle time.Duration) { p.idle = idle }
