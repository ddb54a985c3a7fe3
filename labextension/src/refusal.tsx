// A sentence that says why something was refused.

import * as React from 'react';

/** The server's message in a form or in the panel; nothing without a text. */
export function Refusal({ text }: { text: string | undefined }): React.JSX.Element | null {
  return text ? (
    <p className="jp-PortProxy-problem" role="alert">
      {text}
    </p>
  ) : null;
}
