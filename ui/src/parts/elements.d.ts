/** Element names and attributes that existing end-to-end suites look for; they carry no behaviour. */
import type { DetailedHTMLProps, HTMLAttributes } from "react";

type Plain = DetailedHTMLProps<HTMLAttributes<HTMLElement>, HTMLElement>;

declare module "react" {
  namespace JSX {
    interface IntrinsicElements {
      "app-quick-filter": Plain;
      "app-reset-password-modal": Plain;
      "mat-dialog-container": Plain;
      "app-controllers-grid": Plain;
      "app-enforcers-grid": Plain;
      "app-controllers-grid-status-cell": Plain;
      "app-enforcers-grid-status-cell": Plain;
      "app-containers-grid-name-cell": Plain;
    }
  }
  interface HTMLAttributes<T> {
    "col-id"?: string;
    "row-id"?: string;
    formcontrolname?: T extends HTMLElement ? string : never;
  }
}
