// The target of a command: the service or port that its arguments name, else that of a row or of the current tab.

import type { Args, Target } from './commands';
import type { IPort, IPortsManager, IService } from './tokens';

export class Targets {
  /** `current` returns the target of a command without one among its arguments. */
  constructor(
    private readonly _manager: IPortsManager,
    private readonly _current: (args: Args) => Target | null
  ) {}

  of(args: Args): Target | null {
    if (typeof args.service === 'string') {
      return { service: args.service };
    }
    return typeof args.port === 'number' ? { port: args.port } : this._current(args);
  }

  /** The name of the target; undefined if it is a port. */
  serviceName(args: Args): string | undefined {
    const target = this.of(args);
    return target && 'service' in target ? target.service : undefined;
  }

  service(args: Args): IService | undefined {
    const name = this.serviceName(args);
    return name === undefined ? undefined : this._manager.service(name);
  }

  /** The number of the target; undefined if it is a service. */
  portNumber(args: Args): number | undefined {
    const target = this.of(args);
    return target && 'port' in target ? target.port : undefined;
  }

  port(args: Args): IPort | undefined {
    const number = this.portNumber(args);
    return number === undefined ? undefined : this._manager.port(number);
  }
}
